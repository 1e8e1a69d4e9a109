/*
 * The floor of the benchmark: what one hello costs when no Python runs and nothing is parsed.
 *
 * One thread, one level-triggered epoll. It receives, finds the ends of the heads, and sends for each the bytes that
 * minicorn sends for bench/apps/hello.py, with a Date that is made once a second; one recv and one send per batch of
 * pipelined requests. What is missing is what a server is for: the request is neither parsed nor checked, bodies are
 * not understood, and a peer that does not read its answers is disconnected. So it takes part only in the workloads
 * whose requests are bare heads and whose answer is hello.
 *
 * usage: floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES_MAX 16384
#define EVENTS_MAX 256
#define BACKLOG 1024

struct client {
    int fd;
    size_t filled;
    char head[HEAD_BYTES_MAX];
};

/* A rendered response; `second` is the time that its Date shows. */
struct response {
    time_t second;
    size_t length;
    char bytes[256];
};

static const char HEAD_END[] = "\r\n\r\n";
static const char WANTS_CLOSE[] = "\r\nConnection: close\r\n";

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void render(struct response *response, time_t now, const char *connection)
{
    char date[64];
    struct tm utc;

    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    response->second = now;
    response->length = (size_t)snprintf(response->bytes, sizeof response->bytes,
                                        "HTTP/1.1 200 OK\r\nServer: minicorn\r\nDate: %s\r\n%s"
                                        "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!",
                                        date, connection);
}

static int listen_on(unsigned short port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        die("bind");
    return fd;
}

static void add(int poll, int fd, struct client *client)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};

    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static void accept_clients(int poll, int listener)
{
    int on = 1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = malloc(sizeof *client);
        if (client == NULL)
            die("malloc");
        client->fd = fd;
        client->filled = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        add(poll, fd, client);
    }
}

static void drop(struct client *client)
{
    close(client->fd); /* This also takes it out of the epoll set. */
    free(client);
}

/* Answers every complete head in the buffer with one send. False: the connection is done. */
static int answer(struct client *client, const struct response *keep, const struct response *last)
{
    static char out[HEAD_BYTES_MAX];
    size_t out_filled = 0;
    char *start = client->head;
    char *filled_end = client->head + client->filled;
    int open = 1;

    while (open) {
        char *end = memmem(start, (size_t)(filled_end - start), HEAD_END, sizeof HEAD_END - 1);
        const struct response *response = keep;

        if (end == NULL)
            break;
        end += sizeof HEAD_END - 1;
        if (memmem(start, (size_t)(end - start), WANTS_CLOSE, sizeof WANTS_CLOSE - 1) != NULL) {
            response = last;
            open = 0;
        }
        if (response->length > sizeof out - out_filled)
            return 0;
        memcpy(out + out_filled, response->bytes, response->length);
        out_filled += response->length;
        start = end;
    }
    client->filled = (size_t)(filled_end - start);
    if (client->filled > 0)
        memmove(client->head, start, client->filled);
    if (out_filled > 0 && send(client->fd, out, out_filled, MSG_NOSIGNAL) != (ssize_t)out_filled)
        return 0;
    return open;
}

static void serve(struct client *client, const struct response *keep, const struct response *last)
{
    ssize_t got = recv(client->fd, client->head + client->filled, sizeof client->head - client->filled, 0);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* Gone, or a head that fills the buffer and still has no end. */
        drop(client);
        return;
    }
    client->filled += (size_t)got;
    if (!answer(client, keep, last))
        drop(client);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    struct response keep = {0}, last = {0};
    int poll = epoll_create1(EPOLL_CLOEXEC);
    int listener;

    if (argc != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    listener = listen_on((unsigned short)atoi(argv[1]));
    if (poll < 0)
        die("epoll_create1");
    add(poll, listener, NULL);
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS_MAX, -1);
        time_t now = time(NULL);

        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        if (now != keep.second) {
            render(&keep, now, "");
            render(&last, now, "Connection: close\r\n");
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                accept_clients(poll, listener);
            else
                serve(events[i].data.ptr, &keep, &last);
        }
    }
}
