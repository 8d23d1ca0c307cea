// A naive 32-bit x86 server without a library: gcc -m32 -nostdlib. It forks for each connection, and ends by its stop
// signal. Its arguments are the port, in decimal, and how it waits: accept, poll or epoll. It enters the kernel as C
// libraries do, through the vdso (AT_SYSINFO; sysenter or syscall is there), and makes socket calls by socketcall(2).

typedef unsigned int u32;

__asm__(".text\n.globl _start\n_start:\n\tmov %esp, %eax\n\tpush %eax\n\tcall run\n"
	"interrupt:\n\tint $0x80\n\tret\n"
	".globl call6\ncall6:\n\tpush %ebp\n\tpush %ebx\n\tpush %esi\n\tpush %edi\n"
	"\tmov 20(%esp), %eax\n\tmov 24(%esp), %ebx\n\tmov 28(%esp), %ecx\n\tmov 32(%esp), %edx\n"
	"\tmov 36(%esp), %esi\n\tmov 40(%esp), %edi\n\tmov 44(%esp), %ebp\n\tcall *entry\n"
	"\tpop %edi\n\tpop %esi\n\tpop %ebx\n\tpop %ebp\n\tret\n"
	".data\n.globl entry\nentry:\t.long interrupt\n.text\n");

extern u32 entry;
int call6(int number, ...);

#define CALL(number, a, b, c, d, e, f) call6(number, (int)(a), (int)(b), (int)(c), (int)(d), (int)(e), (int)(f))

enum { EXIT = 1, FORK = 2, READ = 3, WRITE = 4, CLOSE = 6, GETPID = 20, SIGNAL = 48, SOCKETCALL = 102, POLL = 168,
	EPOLL_CTL = 255, EPOLL_PWAIT = 319, EPOLL_CREATE1 = 329 };
enum { SOCKET = 1, BIND = 2, LISTEN = 4, ACCEPT = 5, SETSOCKOPT = 14 };
enum { SOCK_STREAM = 1, SOCK_NONBLOCK = 04000, EINTR = -4, EAGAIN = -11 };

static int socketcall(int call, int a, int b, int c, int d, int e) {
	int args[5] = {a, b, c, d, e};
	return CALL(SOCKETCALL, call, args, 0, 0, 0, 0);
}

static int length(const char *s) { int n = 0; while (s[n]) n++; return n; }

static void say(const char *s) { CALL(WRITE, 1, s, length(s), 0, 0, 0); }

static int add(char *to, const char *s) { int n = 0; for (; s[n]; n++) to[n] = s[n]; return n; }

static int decimal(char *to, u32 value) {
	char digits[10];
	int n = 0, at = 0;
	do digits[n++] = '0' + value % 10; while (value /= 10);
	while (n) to[at++] = digits[--n];
	return at;
}

static int contains(const char *s, int n, const char *what) {
	for (int i = 0, k = length(what), j; i + k <= n; i++) {
		for (j = 0; j < k && s[i + j] == what[j]; j++);
		if (j == k) return 1;
	}
	return 0;
}

// serve answers requests on a connection until either side has enough; pid is the server's.
static void serve(int connection, int pid) {
	char request[4096], body[64], answer[256];
	for (int n = 0; n < (int)sizeof request;) {
		int got = CALL(READ, connection, request + n, sizeof request - n, 0, 0, 0);
		if (got == EINTR) say("EINTR from read\n");
		if (got <= 0) return;
		n += got;
		if (!contains(request, n, "\r\n\r\n")) continue;
		int size = add(body, "pid="), at;
		size += decimal(body + size, pid);
		size += add(body + size, " version=1\n");
		body[size] = 0;
		at = add(answer, "HTTP/1.1 200 OK\r\nContent-Length: ");
		at += decimal(answer + at, size);
		at += add(answer + at, "\r\n\r\n");
		at += add(answer + at, body);
		if (CALL(WRITE, connection, answer, at, 0, 0, 0) != at) return;
		if (contains(request, n, "close")) return;
		n = 0;
	}
}

// await waits until somebody may be there.
static void await(char how, int listener, int set) {
	struct { int fd; short events, revents; } polled = {listener, 1, 0};
	struct { u32 events, data[2]; } event;
	u32 mask[2] = {0, 0};
	int n = 1;
	if (how == 'p') n = CALL(POLL, &polled, 1, -1, 0, 0, 0);
	if (how == 'e') n = CALL(EPOLL_PWAIT, set, &event, 1, -1, mask, 8);
	if (n == EINTR) say("EINTR from a wait\n");
	else if (n != 1) { say("a wait failed\n"); CALL(EXIT, 1, 0, 0, 0, 0, 0); }
}

void run(int *stack) {
	if (stack[0] != 3) CALL(EXIT, 2, 0, 0, 0, 0, 0);
	char **argv = (char **)(stack + 1), **env = argv + stack[0] + 1, how = argv[2][0];
	int port = 0, pid = CALL(GETPID, 0, 0, 0, 0, 0, 0), set = -1, one = 1;
	while (*env) env++;
	for (u32 *aux = (u32 *)(env + 1); aux[0]; aux += 2)
		if (aux[0] == 32) { entry = aux[1]; say("enters by the vdso\n"); }
	for (char *p = argv[1]; *p; p++) port = port * 10 + *p - '0';
	unsigned char address[16] = {2, 0, port >> 8, port, 127, 0, 0, 1};
	CALL(SIGNAL, 17, 1, 0, 0, 0, 0); // children are not waited for
	int listener = socketcall(SOCKET, 2, SOCK_STREAM | (how == 'a' ? 0 : SOCK_NONBLOCK), 0, 0, 0);
	socketcall(SETSOCKOPT, listener, 1, 2, (int)&one, 4);
	if (socketcall(BIND, listener, (int)address, 16, 0, 0) || socketcall(LISTEN, listener, 128, 0, 0, 0)) {
		say("cannot listen\n");
		CALL(EXIT, 1, 0, 0, 0, 0, 0);
	}
	if (how == 'e') {
		struct { u32 events, data[2]; } event = {1, {7, 7}};
		set = CALL(EPOLL_CREATE1, 0, 0, 0, 0, 0, 0);
		CALL(EPOLL_CTL, set, 1, listener, &event, 0, 0);
	}
	for (;;) {
		await(how, listener, set);
		int connection = socketcall(ACCEPT, listener, 0, 0, 0, 0);
		if (connection == EINTR) say("EINTR from accept\n");
		if (connection < 0) continue;
		if (CALL(FORK, 0, 0, 0, 0, 0, 0) == 0) {
			CALL(CLOSE, listener, 0, 0, 0, 0, 0);
			if (set >= 0) CALL(CLOSE, set, 0, 0, 0, 0, 0);
			serve(connection, pid);
			CALL(EXIT, 0, 0, 0, 0, 0, 0);
		}
		CALL(CLOSE, connection, 0, 0, 0, 0, 0);
	}
}
