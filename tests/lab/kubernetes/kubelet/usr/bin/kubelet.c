/* Stand-in for kubelet in the lab: it starts no pods. It listens where kubelet does, and tells its
 * version; whoever connects to it is sent away. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 10250

static void complain(const char *format, const char *config, const char *why)
{
    char now[32];
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    strftime(now, sizeof now, "%m%d %H:%M:%S", localtime(&time.tv_sec));
    fprintf(stderr, "E%s.%06ld %7d run.go:72] \"command failed\" err=\"", now, time.tv_nsec / 1000, getpid());
    fprintf(stderr, format, config, config, config, config, why);
    fprintf(stderr, "\"\n");
}

/* The port of a KubeletConfiguration: its line `port: NUMBER`. */
static int port_of(FILE *config)
{
    char line[4096];
    int port = PORT;
    while (fgets(line, sizeof line, config))
        sscanf(line, "port: %d", &port);
    return port;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    int port = PORT, one = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--version") == 0) {
            puts("Kubernetes v" VERSION);
            return 0;
        }
        if (strncmp(argv[i], "--config=", 9) == 0)
            path = argv[i] + 9;
    }
    if (path) {
        FILE *config = fopen(path, "r");
        if (!config) {
            char why[] = "no such file or directory";
            complain("failed to load kubelet config file, path: %s, error: failed to load Kubelet "
                     "config file %s, error failed to read kubelet config file \\\"%s\\\", error: "
                     "open %s: %s",
                     path, errno == ENOENT ? why : strerror(errno));
            return 1;
        }
        port = port_of(config);
        fclose(config);
    }
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (server < 0 || bind(server, (struct sockaddr *)&here, sizeof here) || listen(server, 64)) {
        fprintf(stderr, "\"Failed to listen and serve\" err=\"listen tcp 0.0.0.0:%d: %s\"\n", port,
                strerror(errno));
        return 1;
    }
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (client >= 0)
            close(client);
    }
}
