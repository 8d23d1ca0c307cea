/* prefork PORT N: N processes blocked in accept on one socket. Each answers a connection with its PID and closes it. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t *workers;
static int count;

static void end(int sig) {
	(void)sig;
	for (int i = 0; i < count; i++)
		kill(workers[i], SIGKILL);
	_exit(0);
}

static void serve(int s) {
	char request[4096], answer[256], body[64];
	for (;;) {
		int c = accept(s, NULL, NULL);
		if (c < 0)
			continue;
		if (read(c, request, sizeof request) > 0) {
			int n = snprintf(body, sizeof body, "pid=%d version=none\n", getpid());
			int k = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", n, body);
			if (write(c, answer, k) < 0)
				perror("write");
		}
		close(c);
	}
}

int main(int argc, char **argv) {
	if (argc != 3)
		return 2;
	int wanted = atoi(argv[2]), on = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(s, (struct sockaddr *)&a, sizeof a) < 0) {
		perror("bind");
		return 1;
	}
	if (listen(s, 4096) < 0) {
		perror("listen");
		return 1;
	}
	workers = calloc(wanted, sizeof *workers);
	signal(SIGTERM, end);
	for (; count < wanted; count++) {
		pid_t pid = fork();
		if (pid == 0) {
			signal(SIGTERM, SIG_DFL);
			serve(s);
		}
		workers[count] = pid;
	}
	for (;;)
		pause();
}
