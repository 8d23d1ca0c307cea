/*
 * load PORT CLIENTS MILLISECONDS REQUEST ANSWER [TAIL]: that many connections at a time to 127.0.0.1, each for one request. An answer begins with
 * ANSWER; it ends with TAIL, or with the connection where there is none. Prints how many were answered and in how many seconds. One
 * thread that waits for all: it leaves the machine to the service as far as a client can.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

static struct sockaddr_in to = {.sin_family = AF_INET};
static const char *request, *want, *tail;
static int set;
static struct client { int fd, have; char answer[4096]; } clients[MOST];

static void die(const char *what) {
	perror(what);
	exit(1);
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* On the loopback device connect is over at once. */
static void ask(struct client *c) {
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
	c->have = 0;
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
		die("connect");
	if (send(c->fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		die("send");
	if (epoll_ctl(set, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("epoll_ctl");
}

/* Tells whether the answer is complete. */
static int listen_to(struct client *c) {
	for (;;) {
		int n = recv(c->fd, c->answer + c->have, sizeof c->answer - c->have, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			die("recv");
		c->have += n;
		int over = tail ? c->have >= (int)strlen(tail) && !memcmp(c->answer + c->have - strlen(tail), tail, strlen(tail)) : n == 0;
		if (!over && n > 0)
			continue;
		if (!over || c->have < (int)strlen(want) || memcmp(c->answer, want, strlen(want))) {
			fprintf(stderr, "answer of %d bytes: %.*s\n", c->have, c->have, c->answer);
			exit(1);
		}
		return 1;
	}
}

int main(int argc, char **argv) {
	if (argc < 6)
		return 2;
	int count = atoi(argv[2]);
	double limit = atof(argv[3]) / 1000;
	long answered = 0;
	struct epoll_event events[MOST];
	to.sin_port = htons(atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	request = argv[4], want = argv[5], tail = argv[6];
	set = epoll_create1(0);
	if (count > MOST || set < 0)
		return 2;
	double began = now();
	for (int i = 0; i < count; i++)
		ask(&clients[i]);
	while (now() - began < limit) {
		int n = epoll_wait(set, events, MOST, 10000);
		if (n <= 0)
			die("no answer");
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			if (!listen_to(c))
				continue;
			answered++;
			close(c->fd);
			ask(c);
		}
	}
	printf("%ld %f\n", answered, now() - began);
	return 0;
}
