/*
 * floor COMMAND...: runs it with a filter that asks about accept and accept4, and lets each call go on. It is what the kernel itself takes for
 * a notified accept, whatever the supervisor is written in and does. It ends with the last process that has the filter; TERM is handed on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#endif

static pid_t service;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static void end(int signal) { kill(service, signal); }

/* One descriptor over a socket; fd < 0 receives it. */
static int pass(int by, int fd) {
	char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	if (fd < 0) {
		if (recvmsg(by, &message, 0) <= 0 || !(c = CMSG_FIRSTHDR(&message)))
			die("recvmsg");
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
		return fd;
	}
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (sendmsg(by, &message, 0) < 0)
		die("sendmsg");
	return fd;
}

static void become(char **command, int by) {
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(accept), 0);
	seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(accept4), 0);
	if (!filter || seccomp_load(filter) < 0)
		die("seccomp");
	close(pass(by, seccomp_notify_fd(filter)));
	close(by);
	execvp(command[0], command);
	die(command[0]);
}

int main(int argc, char **argv) {
	int pair[2];
	if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		die("floor COMMAND...");
	if (!(service = fork()))
		close(pair[0]), become(argv + 1, pair[1]);
	close(pair[1]);
	signal(SIGTERM, end);
	struct pollfd listener = {.fd = pass(pair[0], -1), .events = POLLIN};
	ioctl(listener.fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	for (;;) {
		if (poll(&listener, 1, -1) < 0 && errno != EINTR)
			die("poll");
		if (listener.revents & POLLIN) {
			struct seccomp_notif call = {0};
			if (ioctl(listener.fd, SECCOMP_IOCTL_NOTIF_RECV, &call) == 0) {
				struct seccomp_notif_resp go_on = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
				ioctl(listener.fd, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
			}
		} else if (listener.revents & POLLHUP) {
			break;
		}
		listener.revents = 0;
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
