/*
 * Stand-in for cri-dockerd in the lab. It runs no containers. What it does is what a host sees of
 * the real program: the same flags, version line, systemd socket and readiness, the same end when
 * Docker does not answer, and gRPC on its socket. Of RuntimeService, Version is answered with
 * Docker's own version; Exec, Attach and PortForward with a URL of the streaming server, which has
 * no scheme (BaseURL in cmd/server.go); ReopenContainerLog with the error that it always is
 * (core/logs.go); every other method with "unimplemented". The streaming server speaks HTTP, not
 * HTTPS, as the real one; it takes a stream, and says on it no more than what kept it from its
 * work. Texts are those of 0.3.17 to 0.4.3.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NAME "cri-dockerd"
#define FULL_VERSION VERSION " (stand-in)"
#define SERVICE "/runtime.v1.RuntimeService/"
#define MAX_FRAME 16384
#define MAX_STREAMS 32

static const char *docker_endpoint = "unix:///var/run/docker.sock";
static int streaming_port;
static const char *own_endpoint = "unix:///var/run/cri-dockerd.sock";

/* --- log ------------------------------------------------------------------------------------- */

static void say(const char *level, const char *format, ...)
{
    char now[40];
    time_t seconds = time(NULL);
    va_list arguments;

    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
    fprintf(stderr, "time=\"%s\" level=%s msg=\"", now, level);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\"\n", stderr);
}

#define fatal(...) (say("fatal", __VA_ARGS__), exit(1))

/* --- flags ----------------------------------------------------------------------------------- */

static const char *const value_flags[] = {
    "cni-bin-dir", "cni-cache-dir", "cni-conf-dir", "container-runtime-endpoint",
    "cri-dockerd-root-directory", "docker-endpoint", "hairpin-mode",
    "image-pull-progress-deadline", "log-level", "network-plugin", "network-plugin-mtu",
    "pod-cidr", "pod-infra-container-image", "runtime-cgroups", "runtime-request-timeout",
    "streaming-bind-addr", NULL,
};
static const char *const switches[] = {"buildinfo", "help", "ipv6-dual-stack", "version", NULL};

static int listed(const char *const *names, const char *name, size_t length)
{
    for (; *names; names++)
        if (strlen(*names) == length && !strncmp(*names, name, length))
            return 1;
    return 0;
}

static void parse_flags(char **arguments)
{
    for (; *arguments; arguments++) {
        const char *name = *arguments, *value;
        size_t length;

        if (strncmp(name, "--", 2))
            fatal(*name == '-' ? "unknown shorthand flag: %s" : "Unknown command: %s", name);
        name += 2;
        length = strcspn(name, "=");
        value = name[length] ? name + length + 1 : NULL;
        if (listed(switches, name, length)) {
            if (!strncmp(name, "version", length) || !strncmp(name, "buildinfo", length)) {
                puts(NAME " " FULL_VERSION);
                exit(0);
            }
            if (!strncmp(name, "help", length)) {
                puts("Usage:\n  " NAME " [flags]");
                exit(0);
            }
            continue;
        }
        if (!listed(value_flags, name, length))
            fatal("unknown flag: --%.*s", (int)length, name);
        if (!value && !(value = *++arguments))
            fatal("flag needs an argument: --%.*s", (int)length, name);
        if (!strncmp(name, "container-runtime-endpoint", length))
            own_endpoint = value;
        else if (!strncmp(name, "docker-endpoint", length))
            docker_endpoint = value;
    }
}

/* --- sockets --------------------------------------------------------------------------------- */

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path)
        fatal("socket path too long: %s", path);
    strcpy(address.sun_path, path);
    return address;
}

static const char *unix_path(const char *endpoint)
{
    if (strncmp(endpoint, "unix://", 7))
        fatal("protocol of endpoint %s not supported", endpoint);
    return endpoint + 7;
}

static int listening_socket(void)
{
    struct sockaddr_un address;
    int descriptor;

    if (!strncmp(own_endpoint, "fd://", 5)) {
        const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");

        if (!pid || atoi(pid) != getpid() || !count || atoi(count) < 1)
            fatal("no sockets found via socket activation: make sure the service was started by "
                  "systemd");
        return 3;
    }
    address = unix_address(unix_path(own_endpoint));
    unlink(address.sun_path);
    descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    umask(0117);
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) || listen(descriptor, 16))
        fatal("failed to listen on %s: %s", own_endpoint, strerror(errno));
    return descriptor;
}

static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;
    socklen_t length;
    int descriptor;

    if (!path || !*path)
        return;
    address = unix_address(path);
    length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (*path == '@')
        address.sun_path[0] = '\0';
    descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sendto(descriptor, "READY=1", 7, 0, (struct sockaddr *)&address, length) < 0)
        say("warning", "failed to notify systemd: %s", strerror(errno));
    close(descriptor);
}

/* Ask Docker for its version; NULL, or why it could not be told. */
static const char *docker_version(char *version, size_t size)
{
    static const char request[] = "GET /version HTTP/1.0\r\nHost: docker\r\n\r\n";
    static char answer[65536];
    struct sockaddr_un address = unix_address(unix_path(docker_endpoint));
    struct timeval patience = {.tv_sec = 5};
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t length = 0;
    ssize_t got;
    char *begin;

    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) ||
        write(descriptor, request, sizeof request - 1) < 0) {
        close(descriptor);
        return "Cannot connect to the Docker daemon. Is the docker daemon running?";
    }
    while (length < sizeof answer - 1 &&
           (got = read(descriptor, answer + length, sizeof answer - 1 - length)) > 0)
        length += got;
    close(descriptor);
    answer[length] = '\0';
    /* The first one is the engine's, which is also the answer's own. */
    begin = strstr(answer, "\"Version\":\"");
    if (strncmp(answer, "HTTP/1.", 7) || strncmp(answer + 8, " 200 ", 5) || !begin)
        return "unexpected answer";
    begin += strlen("\"Version\":\"");
    snprintf(version, size, "%.*s", (int)strcspn(begin, "\""), begin);
    return NULL;
}

/* --- the streaming server -------------------------------------------------------------------- */

/* Whether a program is in PATH, as Go's exec.LookPath sees it. */
static int in_path(const char *program)
{
    char candidate[4096];
    const char *folder = getenv("PATH");

    for (; folder; folder = *folder ? folder + 1 : NULL) {
        int length = strcspn(folder, ":");

        snprintf(candidate, sizeof candidate, "%.*s/%s", length, folder, program);
        if (!access(candidate, X_OK))
            return 1;
        folder += length;
    }
    return 0;
}

/* One request: HTTP/1.1 that asks to become a stream. */
static void stream(int client)
{
    static const char garbage[] = "HTTP/1.1 400 Bad Request\r\n"
                                  "Content-Type: text/plain; charset=utf-8\r\n"
                                  "Connection: close\r\n\r\n400 Bad Request";
    static const char absent[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
                                 "Connection: close\r\n\r\n";
    static const char taken[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                "Upgrade: SPDY/3.1\r\n\r\n";
    struct timeval patience = {.tv_sec = 10};
    char request[8192], path[256] = "";
    const char *said = garbage, *problem = "";
    size_t length = 0;
    ssize_t got;

    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    do {
        if ((got = read(client, request + length, sizeof request - 1 - length)) <= 0)
            return;
        length += got;
        request[length] = '\0';
        /* What begins with no letter is no HTTP: the first byte of TLS is 22 */
    } while (*request >= 'A' && *request <= 'Z' && !strstr(request, "\r\n\r\n") &&
             length < sizeof request - 1);
    if (sscanf(request, "%*15[A-Z] %255s HTTP/1.1", path) == 1) {
        int exec = !strncmp(path, "/cri/exec/", 10) || !strncmp(path, "/cri/attach/", 12);
        int forward = !strncmp(path, "/cri/portforward/", 17);

        said = exec || forward ? taken : absent;
        if (forward && !in_path("socat"))
            problem = "unable to do port forwarding: socat not found";
    }
    if (send(client, said, strlen(said), MSG_NOSIGNAL) > 0 && *problem)
        send(client, problem, strlen(problem), MSG_NOSIGNAL);
}

/*
 * Start a process that ends with this one; return 0 in it. A parent that ended before the child
 * asked for the signal sends none, so the child looks whether its parent is still there.
 */
static pid_t start_child(void)
{
    pid_t parent = getpid(), child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            exit(0);
    }
    return child;
}

/* Serve streams on a port of the kernel's choice, in a process of their own. */
static void start_streaming(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
    socklen_t size = sizeof any;
    int server = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), client;

    if (server < 0 || bind(server, (struct sockaddr *)&any, sizeof any) || listen(server, 16) ||
        getsockname(server, (struct sockaddr *)&any, &size))
        fatal("failed to start the streaming server: %s", strerror(errno));
    streaming_port = ntohs(any.sin6_port);
    if (start_child()) {
        close(server);
        return;
    }
    while ((client = accept(server, NULL, NULL)) >= 0 || errno == EINTR) {
        if (client < 0)
            continue;
        if (start_child() == 0) {
            stream(client);
            exit(0);
        }
        close(client);
    }
    exit(1);
}

/* --- HPACK: as much as it takes to find :path ------------------------------------------------ */

/*
 * Lengths of the Huffman codes of RFC 7541, appendix B, from ' ' to '~'. The code is canonical, so
 * they say it all. Codes above 15 bits are of characters that no method's name has: left out.
 */
static const uint8_t code_lengths[95] = {
    6, 10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6, 6,
    6, 6,  7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7, 7,
    7, 7,  7,  7,  7,  7,  7,  7,  8,  7,  8,  13, 0,  13, 14, 6,  15, 5,  6,  5,  6,  5,  6, 6,
    6, 5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7,  15, 11, 14, 13,
};

/* The character of a code of so many bits, or -1. */
static int huffman_character(unsigned code, int bits)
{
    unsigned next = 0;

    for (int length = 5; length <= bits; length++, next <<= 1) {
        if (length == 13)
            next++; /* the character NUL comes before all others of 13 bits */
        for (int i = 0; i < 95; i++)
            if (code_lengths[i] == length && next++ == code && length == bits)
                return ' ' + i;
    }
    return -1;
}

struct block {
    const uint8_t *at, *end;
    int broken;
};

static unsigned hpack_integer(struct block *block, int prefix)
{
    unsigned mask = (1u << prefix) - 1, value, shift = 0;

    if (block->at >= block->end)
        return block->broken = 1, 0;
    value = *block->at++ & mask;
    if (value < mask)
        return value;
    for (;;) {
        if (block->at >= block->end || shift > 21)
            return block->broken = 1, 0;
        value += (unsigned)(*block->at & 0x7f) << shift;
        shift += 7;
        if (!(*block->at++ & 0x80))
            return value;
    }
}

static void hpack_string(struct block *block, char *text, size_t size)
{
    int huffman = block->at < block->end && *block->at & 0x80, bits = 0, character;
    unsigned length = hpack_integer(block, 7), code = 0;
    size_t used = 0;

    if (block->broken || length > (size_t)(block->end - block->at)) {
        block->broken = 1;
        return;
    }
    for (; length; length--, block->at++) {
        if (!huffman) {
            if (used + 1 < size)
                text[used++] = *block->at;
            continue;
        }
        for (int bit = 7; bit >= 0 && bits <= 15; bit--) {
            code = code << 1 | (*block->at >> bit & 1);
            character = huffman_character(code, ++bits);
            if (character >= 0) {
                if (used + 1 < size)
                    text[used++] = character;
                code = bits = 0;
            }
        }
    }
    text[used] = '\0';
}

/*
 * Find :path among the headers. Our SETTINGS forbid a dynamic table; a client that used an entry
 * of its table before it has read them is refused.
 */
static int find_path(const uint8_t *headers, size_t length, char *path, size_t size)
{
    struct block block = {headers, headers + length, 0};
    char name[64], other[256];

    *path = '\0';
    while (block.at < block.end && !block.broken) {
        uint8_t first = *block.at;
        unsigned index;

        if ((first & 0xe0) == 0x20) { /* size of the dynamic table */
            hpack_integer(&block, 5);
            continue;
        }
        index = hpack_integer(&block, first & 0x80 ? 7 : first & 0x40 ? 6 : 4);
        if (index > 61)
            return -1;
        if (first & 0x80) /* wholly from the static table: no method has such a path */
            continue;
        *name = '\0';
        if (!index)
            hpack_string(&block, name, sizeof name);
        if (block.broken)
            break;
        if (index == 4 || index == 5 || !strcmp(name, ":path"))
            hpack_string(&block, path, size);
        else
            hpack_string(&block, other, sizeof other);
    }
    return block.broken ? -1 : 0;
}

/* --- gRPC over HTTP/2 ------------------------------------------------------------------------ */

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONT };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };
enum { PROTOCOL_ERROR = 1, COMPRESSION_ERROR = 9 };
enum { GRPC_OK = 0, GRPC_UNKNOWN = 2, GRPC_UNIMPLEMENTED = 12 };

static int connection;

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = value >> (24 - 8 * i);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static void send_all(const void *bytes, size_t length)
{
    for (const char *at = bytes; length;) {
        ssize_t sent = send(connection, at, length, MSG_NOSIGNAL);

        if (sent <= 0)
            exit(0); /* the client has gone, and with it this process's work */
        at += sent;
        length -= sent;
    }
}

static void send_frame(int type, int flags, uint32_t stream, const void *payload, size_t length)
{
    uint8_t head[9] = {length >> 16, length >> 8, length, type, flags};

    put32(head + 5, stream);
    send_all(head, sizeof head);
    send_all(payload, length);
}

static void receive_all(void *bytes, size_t length)
{
    for (char *at = bytes; length;) {
        ssize_t got = read(connection, at, length);

        if (got <= 0)
            exit(0);
        at += got;
        length -= got;
    }
}

static void give_up(uint32_t error)
{
    uint8_t payload[8] = {0};

    put32(payload + 4, error);
    send_frame(GOAWAY, 0, 0, payload, sizeof payload);
    exit(0);
}

/* Append a header, literally and without indexing. */
static size_t put_header(uint8_t *at, const char *name, const char *value)
{
    size_t names = strlen(name), values = strlen(value);

    at[0] = 0;
    at[1] = names;
    memcpy(at + 2, name, names);
    at[2 + names] = values;
    memcpy(at + 3 + names, value, values);
    return 3 + names + values;
}

/* Append a string field of a protobuf message. */
static size_t put_field(uint8_t *at, int number, const char *value)
{
    size_t length = strlen(value);

    at[0] = number << 3 | 2;
    at[1] = length;
    memcpy(at + 2, value, length);
    return 2 + length;
}

/* The URL of a new stream. It has no scheme, and a host only because the address is known. */
static void stream_url(char *url, size_t size, const char *kind)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char random[8];
    char token[9] = "";

    if (getrandom(random, sizeof random, 0) < 0)
        exit(1);
    for (int i = 0; i < 8; i++)
        token[i] = letters[random[i] & 63];
    snprintf(url, size, "//[::]:%d/cri/%s/%s", streaming_port, kind, token);
}

/* Compose the message that answers a method into BYTES; its length, or -1 with code and message. */
static int compose(uint8_t *bytes, const char *method, int *code, const char **message)
{
    static const char *const streams[][2] = {
        {"Exec", "exec"}, {"Attach", "attach"}, {"PortForward", "portforward"}};
    char text[128];
    size_t length = 0;

    *code = GRPC_UNKNOWN;
    for (int i = 0; i < 3; i++)
        if (!strcmp(method, streams[i][0])) {
            stream_url(text, sizeof text, streams[i][1]);
            return put_field(bytes, 1, text);
        }
    if (!strcmp(method, "ReopenContainerLog")) {
        *message = "docker does not support reopening container log files";
        return -1;
    }
    if (strcmp(method, "Version")) {
        *code = GRPC_UNIMPLEMENTED;
        *message = "the lab's stand-in for cri-dockerd does not have this method";
        return -1;
    }
    if (docker_version(text, sizeof text)) {
        *message = "failed to get docker version from dockerd";
        return -1;
    }
    length += put_field(bytes, 1, "0.1.0");
    length += put_field(bytes + length, 2, "docker");
    length += put_field(bytes + length, 3, text);
    return length + put_field(bytes + length, 4, "v1");
}

static void answer(uint32_t stream, const char *path)
{
    uint8_t bytes[512];
    char status[12];
    const char *message = "";
    int ours = !strncmp(path, SERVICE, strlen(SERVICE)), code, size;
    size_t length = put_header(bytes, ":status", "200");

    length += put_header(bytes + length, "content-type", "application/grpc");
    send_frame(HEADERS, END_HEADERS, stream, bytes, length);
    size = compose(bytes + 5, ours ? path + strlen(SERVICE) : "", &code, &message);
    if (size >= 0) {
        code = GRPC_OK;
        bytes[0] = 0; /* not compressed, and the length of the message */
        put32(bytes + 1, size);
        send_frame(DATA, 0, stream, bytes, 5 + size);
    }
    snprintf(status, sizeof status, "%d", code);
    length = put_header(bytes, "grpc-status", status);
    if (*message)
        length += put_header(bytes + length, "grpc-message", message);
    send_frame(HEADERS, END_HEADERS | END_STREAM, stream, bytes, length);
}

/* Requests whose headers have come and whose end has not. */
static struct {
    uint32_t stream;
    char path[128];
} requests[MAX_STREAMS];

static void request_headers(uint32_t stream, const uint8_t *headers, size_t length)
{
    for (int i = 0; i < MAX_STREAMS; i++)
        if (!requests[i].stream) {
            if (find_path(headers, length, requests[i].path, sizeof requests[i].path))
                give_up(COMPRESSION_ERROR);
            requests[i].stream = stream;
            return;
        }
    give_up(PROTOCOL_ERROR); /* more streams at a time than our SETTINGS allow */
}

static void request_end(uint32_t stream, int cancelled)
{
    for (int i = 0; i < MAX_STREAMS; i++)
        if (requests[i].stream == stream) {
            requests[i].stream = 0;
            if (!cancelled)
                answer(stream, requests[i].path);
        }
}

static void serve(void)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /* HEADER_TABLE_SIZE 0, MAX_CONCURRENT_STREAMS */
    static const uint8_t settings[] = {0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, MAX_STREAMS};
    static uint8_t payload[MAX_FRAME], headers[4 * MAX_FRAME];
    char greeting[sizeof preface - 1];
    size_t collected = 0;
    int last = 0;

    receive_all(greeting, sizeof greeting);
    if (memcmp(greeting, preface, sizeof greeting))
        give_up(PROTOCOL_ERROR);
    send_frame(SETTINGS, 0, 0, settings, sizeof settings);
    for (;;) {
        uint8_t head[9], *body = payload, window[4];
        size_t length;
        uint32_t stream;

        receive_all(head, sizeof head);
        length = head[0] << 16 | head[1] << 8 | head[2];
        stream = get32(head + 5) & 0x7fffffff;
        if (length > sizeof payload)
            give_up(PROTOCOL_ERROR);
        receive_all(payload, length);

        if (head[3] == DATA && length) { /* the client may send as much again */
            put32(window, length);
            send_frame(WINDOW_UPDATE, 0, 0, window, sizeof window);
        }
        if ((head[3] == DATA || head[3] == HEADERS) && head[4] & PADDED) {
            if (length < 1u + payload[0])
                give_up(PROTOCOL_ERROR);
            length -= 1u + payload[0];
            body++;
        }
        switch (head[3]) {
        case SETTINGS:
            if (!(head[4] & ACK))
                send_frame(SETTINGS, ACK, 0, NULL, 0);
            break;
        case PING:
            if (!(head[4] & ACK))
                send_frame(PING, ACK, 0, payload, length);
            break;
        case RST_STREAM:
            request_end(stream, 1);
            break;
        case GOAWAY:
            exit(0);
        case HEADERS:
            collected = 0;
            last = head[4] & END_STREAM;
            if (head[4] & WITH_PRIORITY) {
                if (length < 5)
                    give_up(PROTOCOL_ERROR);
                body += 5;
                length -= 5;
            }
            /* fall through */
        case CONT:
            if (collected + length > sizeof headers)
                give_up(PROTOCOL_ERROR);
            memcpy(headers + collected, body, length);
            collected += length;
            if (head[4] & END_HEADERS) {
                request_headers(stream, headers, collected);
                if (last)
                    request_end(stream, 0);
            }
            break;
        case DATA:
            if (head[4] & END_STREAM)
                request_end(stream, 0);
            break;
        }
    }
}

int main(int count, char **arguments)
{
    const char *error;
    char version[64];
    int listener;

    (void)count;
    parse_flags(arguments + 1);
    say("info", "Starting " NAME " " FULL_VERSION);
    for (int attempt = 1; (error = docker_version(version, sizeof version)); attempt++) {
        if (attempt == 3)
            fatal("failed to get docker version from dockerd: %s", error);
        usleep(300000);
    }
    say("info", "Docker is %s", version);
    if (!in_path("conntrack"))
        say("info", "The binary conntrack is not installed, this can cause failures in network "
                    "connection cleanup.");
    listener = listening_socket();
    signal(SIGCHLD, SIG_IGN);
    start_streaming();
    say("info", "Start cri-dockerd grpc backend");
    notify_ready();
    /* A process a connection: nothing is shared, and one that hangs keeps nobody waiting. */
    while ((connection = accept(listener, NULL, NULL)) >= 0 || errno == EINTR) {
        if (connection < 0)
            continue;
        if (start_child() == 0) {
            close(listener);
            serve();
        }
        close(connection);
    }
    fatal("failed to accept: %s", strerror(errno));
}
