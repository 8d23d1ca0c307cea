/*
 * binds PORTS REPORT: binds a socket to each of the ports that the file PORTS lists, at 127.0.0.1, listens on all, and appends to the file REPORT how
 * many nanoseconds a bind took. It then waits for its end.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096 };

static void die(const char *what) {
	perror(what);
	exit(1);
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
	static int sockets[MOST], ports[MOST];
	int n = 0, one = 1, set = epoll_create1(0);
	FILE *f = argc > 2 ? fopen(argv[1], "r") : NULL;
	if (!f)
		die("binds PORTS REPORT");
	while (n < MOST && fscanf(f, "%d", &ports[n]) == 1)
		n++;
	for (int i = 0; i < n; i++)
		if ((sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) < 0 ||
		    setsockopt(sockets[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
			die("socket");
	double began = now();
	for (int i = 0; i < n; i++) {
		struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ports[i]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		if (bind(sockets[i], (struct sockaddr *)&to, sizeof to) < 0)
			die("bind");
	}
	double each = (now() - began) / n;
	for (int i = 0; i < n; i++) {
		struct epoll_event e = {.events = EPOLLIN};
		if (listen(sockets[i], 16) < 0 || epoll_ctl(set, EPOLL_CTL_ADD, sockets[i], &e) < 0)
			die("listen");
	}
	if (!(f = fopen(argv[2], "a")) || fprintf(f, "%.0f\n", each) < 0 || fclose(f))
		die(argv[2]);
	for (struct epoll_event e;;)
		epoll_wait(set, &e, 1, -1);
}
