/* A server that uses SIGHUP inside: on TERM it finishes, by a SIGHUP of its own, in one of several ways.
 * usage: hupsig HOW PORT
 *   thread   pthread_kill to a thread that is blocked in accept; the handler does nothing
 *   epoll    the same to a thread that waits in epoll_wait without a limit
 *   master   the same, in a worker that the master has forked after it had set another handler
 *   forked   the same, with the handler that the master has set before it forked
 *   raise    raise, whose handler ends the process with status 0; without it 3
 *   sandbox  the same under a seccomp filter of its own, which allows everything
 *   kill     kill to its own PID, likewise
 *   queue    sigqueue to its own PID, likewise; the handler looks at the value
 *   tkill    tkill to its own thread, likewise
 * Each connection gets "PID\n". At its start it says "ready PID". A handler that runs says "heard". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *how;
static volatile sig_atomic_t over;
static pthread_t server;
static pid_t worker;

static void say(const char *text) { if (write(2, text, strlen(text)) < 0) _exit(9); }
static void nothing(int s) { (void)s; say("heard\n"); }
static void wrong(int s) { (void)s; say("the wrong handler\n"); }
static void end(int s, siginfo_t *i, void *c) {
	(void)s, (void)c;
	say("heard\n");
	if (i->si_pid != getpid()) say("another sender\n");
	_exit(!strcmp(how, "queue") && i->si_value.sival_int != 42 ? 4 : 0);
}
static void on(int sig, void (*f)(int)) { struct sigaction a = {.sa_handler = f}; sigaction(sig, &a, 0); }

/* sent says what came of a call by which the process has sent SIGHUP to itself, and lived on. */
static void sent(int result) {
	char line[64];
	snprintf(line, sizeof line, "result %d, errno %d, first thread %d\n", result, errno,
		(int)(syscall(SYS_gettid) == getpid()));
	say(line);
	_exit(3);
}

static void stop(int s) {
	int saved = errno;
	if (worker) kill(worker, s);
	else if (!strcmp(how, "raise") || !strcmp(how, "sandbox")) sent(raise(SIGHUP));
	else if (!strcmp(how, "kill")) sent(kill(getpid(), SIGHUP));
	else if (!strcmp(how, "tkill")) sent(syscall(SYS_tkill, syscall(SYS_gettid), SIGHUP));
	else if (!strcmp(how, "queue")) sent(sigqueue(getpid(), SIGHUP, (union sigval){.sival_int = 42}));
	else {
		over = 1;
		int failed = pthread_kill(server, SIGHUP);
		if (failed) {
			char line[64];
			snprintf(line, sizeof line, "pthread_kill: error %d\n", failed);
			say(line);
			_exit(7);
		}
	}
	errno = saved;
}

static void *serve(void *p) {
	char line[32];
	if (!strcmp(how, "kill") || !strcmp(how, "queue")) {
		/* Only where no other thread takes it does kill(2) return after the handler has run. */
		sigset_t hup;
		sigemptyset(&hup);
		sigaddset(&hup, SIGHUP);
		pthread_sigmask(SIG_BLOCK, &hup, 0);
	}
	int e = -1;
	if (!strcmp(how, "epoll")) {
		struct epoll_event in = {.events = EPOLLIN};
		fcntl(*(int *)p, F_SETFL, O_NONBLOCK);
		if ((e = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(e, EPOLL_CTL_ADD, *(int *)p, &in)) _exit(9);
	}
	while (!over) {
		struct epoll_event out;
		if (e >= 0 && epoll_wait(e, &out, 1, -1) < 0) continue;
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
	how = a[1];
	int yes = 1, l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	struct sockaddr_in s = {.sin_family = AF_INET, .sin_port = htons(atoi(a[2]))};
	s.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(l, (void *)&s, sizeof s) || listen(l, 64)) return 1;
	int threaded = !strcmp(how, "thread") || !strcmp(how, "epoll");
	int forks = !strcmp(how, "master") || !strcmp(how, "forked");
	if (threaded || !strcmp(how, "forked")) on(SIGHUP, nothing);
	else if (forks) on(SIGHUP, wrong);
	else {
		struct sigaction e = {.sa_sigaction = end, .sa_flags = SA_SIGINFO};
		sigaction(SIGHUP, &e, 0);
	}
	on(SIGTERM, stop);
	if (forks) {
		worker = fork();
		if (worker) {
			while (waitpid(worker, 0, 0) < 0) ;
			return 0;
		}
		if (!strcmp(how, "master")) on(SIGHUP, nothing);
	}
	if (!strcmp(how, "sandbox")) {
		struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
		struct sock_fprog program = {1, &allow};
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 1;
	}
	pthread_create(&server, 0, serve, &l);
	pthread_join(server, 0);
	return 0;
}
