/* The floor under every watcher: inotify, two reads, one write on an open socket, no checks.
 *
 * floor DIRECTORY PORT: at each swap of DIRECTORY/..data both files go to 127.0.0.1:PORT as the body of
 * one request, as they are. Nothing is parsed, compared, escaped, retried or proven. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 256, LARGEST = 1 << 20 };

static void demand(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static ssize_t append(char *to, const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    demand(file >= 0, path);
    ssize_t length = read(file, to, LARGEST / 2);
    demand(length >= 0, path);
    close(file);
    return length;
}

int main(int argc, char **argv) {
    demand(argc == 3, "usage: floor DIRECTORY PORT");
    demand(chdir(argv[1]) == 0, argv[1]);
    struct sockaddr_in kong = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    kong.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int at_once = 1, connection = socket(AF_INET, SOCK_STREAM, 0);
    demand(connect(connection, (struct sockaddr *)&kong, sizeof kong) == 0, "connect");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    int events = inotify_init1(IN_CLOEXEC);
    demand(inotify_add_watch(events, ".", IN_MOVED_TO) >= 0, "inotify_add_watch");

    static char noise[64 * 1024], body[LARGEST], request[HEAD + LARGEST];
    while (read(events, noise, sizeof noise) > 0) {
        ssize_t length = append(body, "..data/tls.crt");
        length += append(body + length, "..data/tls.key");
        int head = snprintf(request, HEAD,
                            "PUT /certificates/floor HTTP/1.1\r\nHost: kong\r\n"
                            "Content-Type: application/json\r\nContent-Length: %zd\r\n\r\n",
                            length);
        memcpy(request + head, body, length);
        demand(write(connection, request, head + length) == head + length, "write");
        while (recv(connection, noise, sizeof noise, MSG_DONTWAIT) > 0) {
        }
    }
}
