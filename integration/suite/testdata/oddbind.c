/*
 * oddbind FILE PORT COMMAND...: opens the file, if it is there, tries to bind it to the port on loopback as if it were a socket, and becomes the
 * command, which inherits it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd;

	if (argc < 4)
		return 2;
	addr.sin_port = htons(atoi(argv[2]));
	fd = open(argv[1], O_RDONLY);
	if (fd >= 0) {
		int r = bind(fd, (void *)&addr, sizeof addr);

		fprintf(stderr, "oddbind: bind: %d, %s\n", r, strerror(errno));
	}
	execvp(argv[3], argv + 3);
	perror("oddbind");
	return 3;
}
