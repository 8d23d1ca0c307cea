/* A server whose first thread waits for TERM, beside threads that accept.
 * usage: firstthread HOW PORT
 *   pause       in pause(2), and the others have blocked no signal: that it is the first one which the kernel gives a
 *               signal to the process to is what it counts on, as many programs do without knowing
 *   sandbox     likewise, under a seccomp filter of its own, which allows everything
 *   sigwait     in sigwait(3), and all have blocked TERM
 *   sigsuspend  in sigsuspend(2), and all have blocked TERM but while it is in there
 * Each connection gets "PID\n". A handler that runs in another thread says "another thread". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t over;

static void stop(int s) {
	(void)s;
	if (syscall(SYS_gettid) == getpid()) {
		over = 1;
		return;
	}
	const char *text = "another thread\n";
	if (write(2, text, strlen(text)) < 0) _exit(9);
}

static void *serve(void *p) {
	char line[32];
	for (;;) {
		int c = accept(*(int *)p, 0, 0);
		if (c < 0) continue;
		snprintf(line, sizeof line, "%d\n", (int)getpid());
		if (write(c, line, strlen(line)) < 0) _exit(9);
		close(c);
	}
	return 0;
}

int main(int n, char **a) {
	if (n != 3) return 2;
	int yes = 1, l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	struct sockaddr_in s = {.sin_family = AF_INET, .sin_port = htons(atoi(a[2]))};
	s.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(l, (void *)&s, sizeof s) || listen(l, 64)) return 1;
	sigset_t term, none;
	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	int sandbox = !strcmp(a[1], "sandbox"), pauses = sandbox || !strcmp(a[1], "pause");
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};
	if (sandbox && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 1;
	if (sandbox && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 1;
	if (!pauses) sigprocmask(SIG_BLOCK, &term, 0);
	struct sigaction t = {.sa_handler = stop};
	if (strcmp(a[1], "sigwait")) sigaction(SIGTERM, &t, 0);
	for (int i = 0; i < 8; i++) {
		pthread_t server;
		pthread_create(&server, 0, serve, &l);
	}
	int got = 0;
	if (!strcmp(a[1], "sigwait")) return sigwait(&term, &got) || got != SIGTERM;
	while (!over) {
		if (pauses) pause();
		else sigsuspend(&none);
	}
	return 0;
}
