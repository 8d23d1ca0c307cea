/* calls N: times N of each call that a filter may ask about, none of which does anything. Prints nanoseconds a call. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

#define TIME(name, call) do { \
	for (int i = 0; i < 100; i++) (void)!(call); \
	double began = now(); \
	for (int i = 0; i < n; i++) (void)!(call); \
	printf("%s %.1f\n", name, (now() - began) / n); \
} while (0)

int main(int argc, char **argv) {
	int n = argc > 1 ? atoi(argv[1]) : 10000;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 16) < 0) {
		perror("socket");
		return 1;
	}
	struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
	int in = socket(AF_INET, SOCK_STREAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);
	TIME("getppid", getppid());
	TIME("bind", bind(s, (struct sockaddr *)&a, sizeof a));
	TIME("listen", listen(s, 16));
	TIME("accept", accept(s, NULL, NULL));
	TIME("close", close(-1));
	TIME("connect", connect(in, (struct sockaddr *)&nobody, sizeof nobody));
	TIME("connect-unix", connect(un, (struct sockaddr *)&nowhere, sizeof nowhere));
	TIME("unlink", unlink("/nonexistent/file"));
	return 0;
}
