/*
 * waits WAY PORT VERSION_FILE WORKERS: a service that waits for its clients in one of the ways that Linux has. It knows nothing of
 * huptime. With WORKERS above 0 it forks as many processes, which accept, and itself only ends them.
 *
 * Each connection has a thread of its own, so that whatever waits for clients does nothing else.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *way;
static char version[32];
static int listening; /* what is waited on */
static int accepting; /* what is accepted from: the same socket, maybe by another number */
static int set = -1;  /* the epoll set that is waited on */

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "waits: %s: %s\n", what, strerror(errno));
	exit(3);
}

static void answer(int conn, int goes_on)
{
	char body[64], all[256];
	int n = snprintf(body, sizeof body, "pid=%d version=%s\n", getpid(), version);

	n = snprintf(all, sizeof all, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s", n,
		     goes_on ? "keep-alive" : "close", body);
	if (send(conn, all, n, MSG_NOSIGNAL) != n)
		shutdown(conn, SHUT_RDWR);
}

/* converse answers the requests of one connection; clients send the next one when they have the answer. */
static void *converse(void *arg)
{
	int conn = (int)(long)arg, have = 0, goes_on = 1;
	char buf[4096];

	while (goes_on) {
		struct pollfd p = {conn, POLLIN, 0};
		int n;

		poll(&p, 1, -1);
		n = recv(conn, buf + have, sizeof buf - 1 - have, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			break;
		have += n;
		buf[have] = 0;
		if (strstr(buf, "\r\n\r\n")) {
			goes_on = !strstr(buf, "Connection: close");
			answer(conn, goes_on);
			have = 0;
		}
	}
	close(conn);
	return NULL;
}

static void serve(int conn)
{
	pthread_t thread;

	check(pthread_create(&thread, NULL, converse, (void *)(long)conn) == 0, "pthread_create");
	pthread_detach(thread);
}

static int is(const char *name) { return strcmp(way, name) == 0; }

static void control(int in, int op, int fd, unsigned events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	check(epoll_ctl(in, op, fd, &e) == 0, "epoll_ctl");
}

/* epolls makes the set, before or after fork. */
static void epolls(void)
{
	unsigned events = EPOLLIN;

	set = epoll_create1(EPOLL_CLOEXEC);
	check(set >= 0, "epoll_create1");
	if (is("edge"))
		events |= EPOLLET;
	if (is("exclusive"))
		events |= EPOLLEXCLUSIVE;
	if (is("oneshot"))
		events |= EPOLLONESHOT;
	if (!is("toggle"))
		control(set, EPOLL_CTL_ADD, listening, events);
	if (is("nested")) {
		int inner = set;

		set = epoll_create1(EPOLL_CLOEXEC);
		check(set >= 0, "epoll_create1");
		control(set, EPOLL_CTL_ADD, inner, EPOLLIN);
	}
	if (is("stale"))
		close(listening); /* the entry stays, as long as the socket has another number */
}

/* await returns when somebody wants to connect, as far as the kernel says; or before. */
static void await(void)
{
	struct pollfd p = {listening, POLLIN, 0};
	struct epoll_event e;
	fd_set readable;
	sigset_t none;

	sigemptyset(&none);
	FD_ZERO(&readable);
	FD_SET(listening, &readable);
	if (is("poll") || is("pollblocking") || is("dup") || is("passed"))
		poll(&p, 1, -1);
	else if (is("ppoll"))
		ppoll(&p, 1, NULL, &none);
	else if (is("select"))
		select(listening + 1, &readable, NULL, NULL, NULL);
	else if (is("pselect"))
		pselect(listening + 1, &readable, NULL, NULL, NULL, &none);
	else if (is("toggle")) { /* as nginx does with accept_mutex */
		control(set, EPOLL_CTL_ADD, listening, EPOLLIN);
		epoll_wait(set, &e, 1, 100);
		control(set, EPOLL_CTL_DEL, listening, 0);
	} else
		epoll_wait(set, &e, 1, -1);
}

/* take accepts what is there. */
static void take(void)
{
	for (;;) {
		int conn = accept4(accepting, NULL, NULL, SOCK_CLOEXEC | (is("accept4") ? SOCK_NONBLOCK : 0));

		if (conn >= 0)
			serve(conn);
		else
			check(errno == EAGAIN || errno == ECONNABORTED, "accept");
		if (is("oneshot"))
			control(set, EPOLL_CTL_MOD, listening, EPOLLIN | EPOLLONESHOT);
		/* An edge tells of all that is there; the others tell again. */
		if (conn < 0 || !is("edge"))
			return;
	}
}

static void run(void)
{
	if (set < 0 && (is("level") || is("edge") || is("exclusive") || is("oneshot") || is("nested") || is("toggle") || is("stale") || is("daemon") || is("uring") || is("dropping")))
		epolls();
	for (;;) {
		if (!is("accept") && !is("accept4"))
			await();
		take();
	}
}

static int listens(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int blocks = is("accept") || is("accept4") || is("pollblocking");
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocks ? 0 : SOCK_NONBLOCK), 0);

	check(fd >= 0, "socket");
	check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "setsockopt");
	check(bind(fd, (struct sockaddr *)&a, sizeof a) == 0, "bind");
	check(listen(fd, 512) == 0, "listen");
	return fd;
}

/* pass sends the socket to a child that did not get it by fork, and closes it here. */
static void pass(int over, int fd)
{
	char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	check(sendmsg(over, &m, 0) == 1, "sendmsg");
}

static int passed(int over)
{
	char byte, room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	int fd;

	check(recvmsg(over, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m), "recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

/* uring makes an io_uring, as a service that accepts by one has it. It returns 0 where that is not permitted. */
static int uring(void)
{
	char params[120] = {0}; /* struct io_uring_params */

	return syscall(SYS_io_uring_setup, 4, params) >= 0;
}

/* worker forks one. It ends with its master. */
static void worker(void)
{
	int master = getpid(), pair[2];
	pid_t pid;

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
	pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		if (is("dropping")) { /* what servers that are started by root do */
			check(setgid(65534) == 0, "setgid");
			check(setuid(65534) == 0, "setuid");
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != master)
			_exit(4);
		if (is("passed")) {
			close(listening);
			/* Other numbers than the master's. */
			for (int i = 0; i < 5; i++)
				check(dup(0) >= 0, "dup");
			listening = accepting = passed(pair[0]);
		}
		run();
	}
	if (is("passed"))
		pass(pair[1], listening);
	close(pair[0]);
	close(pair[1]);
}

/* daemonize leaves parent, session and process group behind, as daemon(7) of the old kind do. */
static void daemonize(void)
{
	pid_t pid = fork();

	check(pid >= 0, "fork");
	if (pid > 0)
		_exit(0);
	check(setsid() >= 0, "setsid");
	pid = fork();
	check(pid >= 0, "fork");
	if (pid > 0)
		_exit(0);
}

int main(int argc, char **argv)
{
	FILE *file;
	int workers;

	if (argc == 2 && strcmp(argv[1], "probe-uring") == 0) {
		check(uring(), "io_uring_setup");
		return 0;
	}
	check(argc == 5, "usage: waits WAY PORT VERSION_FILE WORKERS");
	way = argv[1];
	workers = atoi(argv[4]);
	file = fopen(argv[3], "r");
	check(file && fscanf(file, "%31s", version) == 1, "version file");
	fclose(file);
	if (is("daemon"))
		daemonize();
	if (strstr(version, "mute"))
		while (pause()) /* never ready */
			;
	listening = accepting = listens(atoi(argv[2]));
	if (is("uring"))
		check(uring(), "io_uring_setup");
	if (is("dup") || is("stale")) {
		accepting = fcntl(listening, F_DUPFD_CLOEXEC, 100);
		check(accepting >= 0, "dup");
	}
	if (is("shared"))
		epolls(); /* master and workers have one set */
	for (int i = 0; i < workers; i++)
		worker();
	if (workers == 0 || is("shared"))
		run();
	while (pause())
		;
}
