/* A server that leaves orphans behind which nothing stops: each waits in vfork for a child that never executes anything, in a session of its own.
 * usage: vforked PORT DIR N
 * The first leader makes the file DIR/first, the second finds it and makes N orphans before it listens. Each connection gets "leader PID"; the first
 * leader then leaves it to a child until the client closes it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int n, char **a) {
	if (n != 4 || chdir(a[2])) return 1;
	int on = 1, l = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	struct sockaddr_in s = {.sin_family = AF_INET, .sin_port = htons(atoi(a[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(l, (void *)&s, sizeof s)) return 1;
	int there[2];
	int first = access("first", F_OK);
	if (first) close(open("first", O_CREAT | O_WRONLY, 0644));
	if (!first && !pipe(there)) {
		for (int i = 0; i < atoi(a[3]); i++) {
			if (fork()) {
				wait(0);
				continue;
			}
			setsid();
			if (fork()) _exit(0);
			setsid();
			close(l);
			signal(SIGTERM, SIG_IGN);
			if (vfork() == 0) {
				if (write(there[1], "x", 1) < 0) _exit(1);
				for (;;) pause();
			}
			_exit(0);
		}
		char c;
		for (int i = 0; i < atoi(a[3]); i++)
			if (read(there[0], &c, 1) != 1) return 1;
	}
	if (listen(l, 64)) return 1;
	for (;;) {
		char line[64];
		int c = accept(l, 0, 0);
		if (c < 0) continue;
		snprintf(line, sizeof line, "leader %d\n", (int)getpid());
		if (write(c, line, strlen(line)) < 0) return 1;
		if (first && fork() == 0) {
			close(l);
			if (read(c, line, 1) < 0) _exit(1);
			_exit(0);
		}
		close(c);
	}
}
