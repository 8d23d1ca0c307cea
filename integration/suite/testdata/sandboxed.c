/*
 * sandboxed HOW PORT VERSION_FILE WAY: a service of one thread that listens, and then takes everything from itself that serving does not need, by a
 * seccomp filter. HOW is what the filter does to other calls: kill, or errno. WAY is how it waits for clients: accept, or epoll, and how it
 * ends: naive (SIGTERM kills it), or graceful (what it has begun it finishes).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ALLOW(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static volatile sig_atomic_t ended;

static void end(int sig)
{
	(void)sig;
	ended = 1;
}

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "sandboxed: %s: %s\n", what, strerror(errno));
	exit(3);
}

static void restrict_self(const char *how)
{
	unsigned other = strcmp(how, "kill") ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_KILL_PROCESS;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(accept), ALLOW(accept4), ALLOW(recvfrom), ALLOW(sendto), ALLOW(close), ALLOW(exit_group), ALLOW(rt_sigreturn),
		ALLOW(restart_syscall), ALLOW(clock_nanosleep), ALLOW(epoll_pwait),
		BPF_STMT(BPF_RET | BPF_K, other),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	check(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

int main(int argc, char **argv)
{
	char version[32] = "", answer[256], body[64], buf[4096];
	int on = 1, n, epoll, graceful, listening, set = epoll_create1(0);
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN};
	struct sigaction action = {.sa_handler = end}; /* without SA_RESTART: a wait ends */
	FILE *file;

	check(argc == 6, "usage: sandboxed HOW PORT VERSION_FILE accept|epoll naive|graceful");
	epoll = !strcmp(argv[4], "epoll");
	graceful = !strcmp(argv[5], "graceful");
	file = fopen(argv[3], "r");
	check(file && fscanf(file, "%31s", version) == 1, "version");
	fclose(file);
	n = snprintf(body, sizeof body, "pid=%d version=%s\n", getpid(), version);
	n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", n, body);
	listening = socket(AF_INET, SOCK_STREAM | (epoll ? SOCK_NONBLOCK : 0), 0);
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	addr.sin_port = htons(atoi(argv[2]));
	check(!bind(listening, (void *)&addr, sizeof addr) && !listen(listening, 128), "listen");
	check(!epoll_ctl(set, EPOLL_CTL_ADD, listening, &event), "epoll_ctl");
	if (graceful)
		check(!sigaction(SIGTERM, &action, NULL), "sigaction");
	restrict_self(argv[1]);
	while (!ended) {
		int conn, got;

		if (epoll && epoll_pwait(set, &event, 1, -1, NULL) < 1)
			continue;
		conn = accept(listening, NULL, NULL);
		if (conn < 0)
			continue;
		while ((got = recv(conn, buf, sizeof buf, 0)) < 0 && errno == EINTR)
			;
		if (got > 0) {
			struct timespec work = {0, 10000000};

			while (clock_nanosleep(CLOCK_REALTIME, 0, &work, &work))
				;
			send(conn, answer, n, MSG_NOSIGNAL);
		}
		close(conn);
	}
	return 0;
}
