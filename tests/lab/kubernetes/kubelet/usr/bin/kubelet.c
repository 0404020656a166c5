/*
 * Stand-in for kubelet in the lab: it starts no pods and registers no node. It reads its flags and
 * its configuration as strictly as the real one, listens where that listens, and sends away whoever
 * connects. Its configuration is YAML as kubeadm writes it: a field a line, no flow style.
 *
 * On the port of its health check it also answers for what the real one does when the API server
 * asks it, by the same rules and through the runtime's socket:
 *
 * GET /lab/exec, /lab/attach, /lab/portforward
 *     have the runtime open a stream. 200 if that worked, else 500 and what kubectl would print.
 * GET /lab/rotate
 *     rotate the logs of containers that have grown beyond containerLogMaxSize, which the real one
 *     looks for every ten seconds. 200 if there are none or it worked, else 500 and what is logged.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE 4096

/* --- what it is told ------------------------------------------------------------------------- */

static struct {
    int port, healthz_port, fail_swap_on, web_sockets, minor;
    long long log_max_size;
    char pod_logs[256], healthz_address[64], endpoint[sizeof(((struct sockaddr_un *)0)->sun_path)];
} settings = {
    .port = 10250,
    .healthz_port = 10248,
    .fail_swap_on = 1,
    .log_max_size = 10 << 20,
    .pod_logs = "/var/log/pods",
    .healthz_address = "127.0.0.1",
    .endpoint = "/run/containerd/containerd.sock",
};

static const char *const flags[] = {
    "bootstrap-kubeconfig", "config", "container-runtime-endpoint", "feature-gates",
    "hostname-override", "kubeconfig", "node-ip", "node-labels", "pod-infra-container-image",
    "register-with-taints", "v", NULL,
};

static void klog(const char *level, const char *place, const char *format, va_list arguments)
{
    char now[32];
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    strftime(now, sizeof now, "%m%d %H:%M:%S", localtime(&time.tv_sec));
    fprintf(stderr, "%s%s.%06ld %7d %s] ", level, now, time.tv_nsec / 1000, getpid(), place);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

static void complain(const char *place, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    klog("E", place, format, arguments);
    va_end(arguments);
}

#define fatal(...) (complain("run.go:72", "\"command failed\" err=\"" __VA_ARGS__), exit(1))

/* The value of a flag, --NAME=VALUE or --NAME VALUE; refuses flags that kubelet does not have. */
static const char *flag(char **arguments, const char *wanted)
{
    const char *found = NULL;

    for (; *arguments; arguments++) {
        const char *name = *arguments + 2, *value, *const *known = flags;
        size_t length;

        if (strncmp(*arguments, "--", 2))
            fatal("unknown command: %s\"", *arguments);
        length = strcspn(name, "=");
        while (*known && (strlen(*known) != length || strncmp(*known, name, length)))
            known++;
        /* Removed in 1.35: kubernetes/kubernetes#133779 */
        if (!*known || (settings.minor >= 35 && !strcmp(*known, "pod-infra-container-image")))
            fatal("failed to parse kubelet flag: unknown flag: --%.*s\"", (int)length, name);
        value = name[length] ? name + length + 1 : *++arguments;
        if (!value)
            fatal("failed to parse kubelet flag: flag needs an argument: --%s\"", name);
        if (!strcmp(*known, wanted))
            found = value;
    }
    return found;
}

static void set_endpoint(const char *endpoint)
{
    if (strncmp(endpoint, "unix://", 7) || strlen(endpoint + 7) >= sizeof settings.endpoint)
        fatal("failed to run Kubelet: validate service connection: endpoint %s\"", endpoint);
    strcpy(settings.endpoint, endpoint + 7);
}

/* The only gate that we set, which 1.36 is the first to know; the real kubelet knows many more. */
static void set_gate(const char *name, const char *value)
{
    if (strcmp(name, "ExtendWebSocketsToKubelet") || settings.minor < 36)
        fatal("failed to set feature gates from initial flags-based config: unrecognized feature "
              "gate: %s\"", name);
    settings.web_sockets = !strcmp(value, "true");
}

/* Bytes of a quantity such as 10Mi, 1G or 5000000. */
static long long quantity(const char *text)
{
    static const char *const units = "KMGT";
    char *unit;
    long long number = strtoll(text, &unit, 10);
    const char *at = *unit ? strchr(units, *unit == 'k' ? 'K' : *unit) : NULL;
    int binary = *unit && unit[1] == 'i';

    if (unit == text || (*unit && (!at || strcmp(unit + 1 + binary, ""))))
        fatal("failed to run Kubelet: failed to parse container log max size \\\"%s\\\"\"", text);
    for (int i = at ? at - units : -1; i >= 0; i--)
        number *= binary ? 1024 : 1000;
    return number;
}

static void set_field(const char *name, const char *value)
{
    if (!strcmp(name, "port"))
        settings.port = atoi(value);
    else if (!strcmp(name, "healthzPort"))
        settings.healthz_port = atoi(value);
    else if (!strcmp(name, "healthzBindAddress"))
        snprintf(settings.healthz_address, sizeof settings.healthz_address, "%s", value);
    else if (!strcmp(name, "podLogsDir"))
        snprintf(settings.pod_logs, sizeof settings.pod_logs, "%s", value);
    else if (!strcmp(name, "failSwapOn"))
        settings.fail_swap_on = strcmp(value, "false") != 0;
    else if (!strcmp(name, "containerLogMaxSize"))
        settings.log_max_size = quantity(value);
    else if (!strcmp(name, "containerRuntimeEndpoint"))
        set_endpoint(value);
}

static void read_config(const char *path)
{
    char line[LINE], name[128], value[1024], above[128] = "";
    FILE *file = fopen(path, "r");

    if (!file) {
        const char *why = errno == ENOENT ? "no such file or directory" : strerror(errno);

        fatal("failed to load kubelet config file, path: %s, error: failed to load Kubelet config "
              "file %s, error failed to read kubelet config file \\\"%s\\\", error: open %s: %s\"",
              path, path, path, path, why);
    }
    while (fgets(line, sizeof line, file)) {
        int indent = strspn(line, " "), found;

        *value = '\0';
        found = sscanf(line + indent, "%127[A-Za-z0-9_]: %1023[^\n#]", name, value);
        for (size_t end = strlen(value); end && strchr(" \r'\"", value[end - 1]);)
            value[--end] = '\0';
        if (found < 1)
            continue;
        if (!indent)
            set_field(strcpy(above, name), value + strspn(value, "'\""));
        else if (!strcmp(above, "featureGates"))
            set_gate(name, value);
    }
    fclose(file);
}

/* kubelet takes no swap, unless it is told to. */
static void check_swap(void)
{
    char line[LINE];
    int lines = 0;
    FILE *file = fopen("/proc/swaps", "r");

    while (file && fgets(line, sizeof line, file))
        lines++;
    if (file)
        fclose(file);
    if (lines > 1 && settings.fail_swap_on)
        fatal("failed to run Kubelet: running with swap on is not supported, please disable swap "
              "or set --fail-swap-on flag to false\"");
}

/* Without a kubeconfig it would have to be given one by a token. */
static void check_kubeconfig(const char *own, const char *bootstrap)
{
    if (own && bootstrap && access(own, R_OK) && access(bootstrap, R_OK))
        fatal("failed to run Kubelet: unable to load bootstrap kubeconfig: stat %s: no such file "
              "or directory\"", bootstrap);
}

/* --- the runtime: as much of gRPC as the lab's stand-in for cri-dockerd needs ---------------- */

enum { DATA, HEADERS, SETTINGS = 4, END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

static int send_all(int to, const void *bytes, size_t length)
{
    return send(to, bytes, length, MSG_NOSIGNAL) == (ssize_t)length ? 0 : -1;
}

static int send_frame(int to, int type, int flags, int stream, const void *payload, int length)
{
    uint8_t frame[512] = {0, length >> 8, length, type, flags, 0, 0, 0, stream};

    memcpy(frame + 9, payload, length);
    return send_all(to, frame, 9 + length);
}

/* Append a header, literally: the first byte, 0, says so, and sprintf counts it too. */
static int put_header(uint8_t *at, const char *name, const char *value)
{
    return sprintf((char *)at, "%c%c%s%c%s", 0, (int)strlen(name), name, (int)strlen(value), value);
}

/* Copy a header's value from a block of literal headers; it stays as it is where it is not there. */
static void get_header(const uint8_t *at, size_t length, const char *name, char *value, size_t size)
{
    const uint8_t *end = at + length;

    while (at + 2 < end && !*at) {
        size_t names = at[1], values = at + 2 + names < end ? at[2 + names] : 0;
        const char *key = (const char *)at + 2;

        if (at + 3 + names + values > end)
            return;
        if (names == strlen(name) && !memcmp(key, name, names))
            snprintf(value, size, "%.*s", (int)values, key + names + 1);
        at += 3 + names + values;
    }
}

static int connected(int family, const void *address, socklen_t size)
{
    struct timeval patience = {.tv_sec = 10};
    int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (made >= 0 && !connect(made, address, size))
        return made;
    close(made);
    return -1;
}

/* Call a method with an empty message. 0 and the first field, a text; or -1 and why not. */
static int call(const char *method, char *answer, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t bytes[LINE] = {0x83, 0x86}, head[9], message[5] = {0}; /* POST, http */
    char path[128], status[12] = "14", why[256] = "the runtime does not answer";
    int runtime, length = 2;

    strcpy(address.sun_path, settings.endpoint);
    *answer = '\0';
    if ((runtime = connected(AF_UNIX, &address, sizeof address)) < 0) {
        snprintf(answer, size, "rpc error: code = Unavailable desc = dial unix %s: %s",
                 settings.endpoint, strerror(errno));
        return -1;
    }
    snprintf(path, sizeof path, "/runtime.v1.RuntimeService/%s", method);
    length += put_header(bytes + length, ":path", path);
    length += put_header(bytes + length, "content-type", "application/grpc");
    length += put_header(bytes + length, "te", "trailers");
    if (send_all(runtime, preface, sizeof preface - 1) ||
        send_frame(runtime, SETTINGS, 0, 0, "", 0) ||
        send_frame(runtime, HEADERS, END_HEADERS, 1, bytes, length) ||
        send_frame(runtime, DATA, END_STREAM, 1, message, sizeof message))
        goto end;
    while (recv(runtime, head, sizeof head, MSG_WAITALL) == sizeof head) {
        length = head[0] << 16 | head[1] << 8 | head[2];
        if (length > (int)sizeof bytes || recv(runtime, bytes, length, MSG_WAITALL) != length)
            break;
        if (head[3] == SETTINGS && !(head[4] & ACK))
            send_frame(runtime, SETTINGS, ACK, 0, "", 0);
        if (head[3] == DATA && length > 7 && bytes[5] == 0x0a)
            snprintf(answer, size, "%.*s", bytes[6], (char *)bytes + 7);
        if (head[3] == HEADERS) {
            get_header(bytes, length, "grpc-status", status, sizeof status);
            get_header(bytes, length, "grpc-message", why, sizeof why);
        }
        if (head[4] & END_STREAM && head[3] <= HEADERS)
            break;
    }
end:
    close(runtime);
    if (!strcmp(status, "0"))
        return 0;
    snprintf(answer, size, "rpc error: code = %s desc = %s",
             strcmp(status, "2") ? "Unavailable" : "Unknown", why);
    return -1;
}

/* --- what it is asked for -------------------------------------------------------------------- */

/*
 * Open a stream of the runtime at a URL; 0, or -1 and what kubectl would print.
 *
 * Since 1.36 kubelet passes WebSockets on to the runtime (ExtendWebSocketsToKubelet), and takes a
 * URL without a scheme for https; before, and with the gate off, for http. Go tells by the first
 * bytes of the answer that the other side does not speak TLS.
 */
static int open_stream(const char *url, char *said, size_t size)
{
    static const uint8_t hello[] = {22, 3, 1, 0, 5, 1, 0, 0, 1, 3};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char path[256], request[512], answer[LINE] = "", *text;
    int port, stream, tls, length = 0, got;

    if (sscanf(url, "%*[a-z:]//%*[^]]]:%d%255s", &port, path) != 2 &&
        sscanf(url, "//%*[^]]]:%d%255s", &port, path) != 2) {
        snprintf(said, size, "parse \"%s\": invalid URL", url);
        return -1;
    }
    tls = !strncmp(url, "https:", 6) || (!strncmp(url, "//", 2) && settings.web_sockets);
    here.sin_port = htons(port);
    if ((stream = connected(AF_INET, &here, sizeof here)) < 0) {
        snprintf(said, size, "error sending request: Post \"%s\": dial tcp: %s", url,
                 strerror(errno));
        return -1;
    }
    snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: localhost\r\n"
             "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", path);
    if (tls)
        send_all(stream, hello, sizeof hello);
    else
        send_all(stream, request, strlen(request));
    while ((got = recv(stream, answer + length, sizeof answer - 1 - length, 0)) > 0)
        answer[length += got] = '\0';
    close(stream);
    if (tls)
        snprintf(said, size, "Internal error occurred: error sending request: Post \"%s\": %s", url,
                 strncmp(answer, "HTTP/", 5) ? "tls: handshake failure"
                                             : "http: server gave HTTP response to HTTPS client");
    else if (strncmp(answer, "HTTP/1.1 101 ", 13))
        snprintf(said, size, "unable to upgrade connection: %.*s", (int)strcspn(answer, "\r"),
                 answer);
    else if ((text = strstr(answer, "\r\n\r\n")) && text[4])
        snprintf(said, size, "%s", text + 4);
    else
        return 0;
    return -1;
}

static int ask_for_stream(const char *method, char *said, size_t size)
{
    char url[256];

    if (call(method, url, sizeof url)) {
        snprintf(said, size, "%s", url);
        return -1;
    }
    return open_stream(url, said, size);
}

/* The container of a log, which is a link to Docker's: its folder there is named so. */
static void container_of(const char *log, char *id, size_t size)
{
    char target[PATH_MAX] = "", *name;

    if (readlink(log, target, sizeof target - 1) < 0)
        strcpy(target, log);
    name = strrchr(target, '/');
    snprintf(id, size, "%.*s", (int)strcspn(name ? name + 1 : target, "-."),
             name ? name + 1 : target);
}

/* Rotate one log, as rotateLatestLog in pkg/kubelet/logs/container_log_manager.go. */
static int rotate(const char *log, char *said, size_t size)
{
    char rotated[PATH_MAX], stamp[32], id[128], why[512];
    time_t now = time(NULL);

    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", localtime(&now));
    snprintf(rotated, sizeof rotated, "%s.%s", log, stamp);
    container_of(log, id, sizeof id);
    if (rename(log, rotated)) {
        snprintf(said, size, "failed to rotate log \\\"%s\\\": %s", log, strerror(errno));
        return -1;
    }
    if (!call("ReopenContainerLog", why, sizeof why))
        return 0;
    complain("log.go:32", "\"ReopenContainerLog from runtime service failed\" err=\"%s\" "
             "containerID=\"%s\"", why, id);
    rename(rotated, log);
    snprintf(said, size, "failed to rotate log \\\"%s\\\": failed to reopen container log "
             "\\\"%s\\\": %s", log, id, why);
    return -1;
}

static int rotate_logs(char *said, size_t size)
{
    glob_t logs;
    struct stat state;
    char pattern[sizeof settings.pod_logs + 16];
    int failed = 0;

    snprintf(pattern, sizeof pattern, "%s/*/*/*.log", settings.pod_logs);
    if (glob(pattern, 0, NULL, &logs))
        return 0;
    for (size_t i = 0; i < logs.gl_pathc; i++) {
        if (stat(logs.gl_pathv[i], &state) || state.st_size < settings.log_max_size ||
            !rotate(logs.gl_pathv[i], said, size))
            continue;
        complain("container_log_manager.go:307", "\"Failed to rotate log for container\" "
                 "err=\"%s\"", said);
        failed = -1;
    }
    globfree(&logs);
    return failed;
}

static void answer(int client)
{
    struct timeval patience = {.tv_sec = 5};
    char request[LINE] = "", path[128] = "", said[2048] = "ok", reply[LINE];
    int status = 0;

    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (recv(client, request, sizeof request - 1, 0) <= 0)
        return;
    sscanf(request, "GET %127s", path);
    if (!strcmp(path, "/lab/exec"))
        status = ask_for_stream("Exec", said, sizeof said);
    else if (!strcmp(path, "/lab/attach"))
        status = ask_for_stream("Attach", said, sizeof said);
    else if (!strcmp(path, "/lab/portforward"))
        status = ask_for_stream("PortForward", said, sizeof said);
    else if (!strcmp(path, "/lab/rotate"))
        status = rotate_logs(said, sizeof said);
    else if (strcmp(path, "/healthz")) {
        strcpy(said, "404 page not found");
        status = 1;
    }
    snprintf(reply, sizeof reply, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nConnection: close"
             "\r\nContent-Length: %zu\r\n\r\n%s",
             status < 0 ? "500 Internal Server Error" : status ? "404 Not Found" : "200 OK",
             strlen(said), said);
    send_all(client, reply, strlen(reply));
}

/* --- its ports ------------------------------------------------------------------------------- */

static int listening(const char *address, int port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (server < 0 || inet_pton(AF_INET, address, &here.sin_addr) != 1 ||
        bind(server, (struct sockaddr *)&here, sizeof here) || listen(server, 64)) {
        complain("server.go:221", "\"Failed to listen and serve\" err=\"listen tcp %s:%d: %s\"",
                 address, port, strerror(errno));
        exit(1);
    }
    return server;
}

int main(int count, char **arguments)
{
    const char *config, *endpoint;
    struct pollfd servers[2] = {{.events = POLLIN}, {.events = POLLIN}};

    if (count == 2 && !strcmp(arguments[1], "--version")) {
        puts("Kubernetes v" VERSION);
        return 0;
    }
    settings.minor = atoi(strchr(VERSION, '.') + 1);
    settings.web_sockets = settings.minor >= 36;
    if ((config = flag(arguments + 1, "config")))
        read_config(config);
    if ((endpoint = flag(arguments + 1, "container-runtime-endpoint")))
        set_endpoint(endpoint);
    check_kubeconfig(flag(arguments + 1, "kubeconfig"),
                     flag(arguments + 1, "bootstrap-kubeconfig"));
    check_swap();
    signal(SIGCHLD, SIG_IGN);
    servers[0].fd = listening("0.0.0.0", settings.port);
    servers[1].fd = listening(settings.healthz_address, settings.healthz_port);
    for (;;) {
        if (poll(servers, 2, -1) < 0)
            continue;
        for (int i = 0; i < 2; i++) {
            int client = servers[i].revents ? accept(servers[i].fd, NULL, NULL) : -1;

            if (client < 0)
                continue;
            /* A process a question: one that waits for the log share keeps nobody waiting */
            if (i == 1 && fork() == 0) {
                answer(client);
                exit(0);
            }
            close(client);
        }
    }
}
