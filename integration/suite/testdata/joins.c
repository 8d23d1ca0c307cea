/* A process of a generation that joins the process group of the next generation's leader, where it may.
 * usage: joins PORT DIR
 * The leader writes its PID to DIR/leader and forks an orphan with a group of its own, which accepts beside it, and moves into the group of
 * whoever is named there later, to be replaced by a child. The second leader waits until DIR/joined says how that went, before it listens. Each connection gets
 * "leader PID" or "orphan PID" of who answers. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int get(const char *name) {
	char text[32] = "";
	int fd = open(name, O_RDONLY);
	if (fd < 0) return 0;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	return n > 0 ? atoi(text) : 0;
}

static void put(const char *name, const char *text) {
	char other[64];
	snprintf(other, sizeof other, "%s.new", name);
	int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 || rename(other, name)) _exit(2);
	close(fd);
}

static void serve(int l, const char *who) {
	char line[64];
	int known = get("leader"), joined = 0;
	for (;;) {
		struct pollfd p = {.fd = l, .events = POLLIN};
		int ready = poll(&p, 1, 10);
		if (*who == 'o' && !joined && get("leader") != known) {
			int failure = setpgid(0, get("leader")) ? errno : -1;
			if (fork() > 0) _exit(0); /* nobody has seen the child before */
			snprintf(line, sizeof line, "%d\n", failure);
			put("joined", line);
			joined = 1;
		}
		if (ready < 1) continue;
		int c = accept(l, 0, 0);
		if (c < 0) continue;
		snprintf(line, sizeof line, "%s %d\n", who, (int)getpid());
		if (write(c, line, strlen(line)) < 0) _exit(3);
		close(c);
	}
}

int main(int n, char **a) {
	char line[32];
	if (n != 3 || chdir(a[2])) return 1;
	int second = get("leader") != 0;
	snprintf(line, sizeof line, "%d\n", (int)getpid());
	put("leader", line);
	for (int i = 0; second && !get("joined") && i < 3000; i++) usleep(10000);
	int on = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	struct sockaddr_in s = {.sin_family = AF_INET, .sin_port = htons(atoi(a[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(l, (void *)&s, sizeof s) || listen(l, 64)) return 1;
	if (!second && fork() == 0) {
		setpgid(0, 0);
		if (fork() > 0) _exit(0);
		signal(SIGTERM, SIG_IGN);
		serve(l, "orphan");
	}
	serve(l, "leader");
}
