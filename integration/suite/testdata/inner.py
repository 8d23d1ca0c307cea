"""An HTTP server that is its own client. argv: KIND PORT BACK

keeps    a connection to its own port is open for its whole life
pool     two processes: the front has one connection to the back's port, by which it asks for each request
asks     two processes: the front takes 0.1 s for a request, and then makes a connection to the back (a path, or a port)
udp      a socket of its UDP port has a peer: a socket of its own
"""
import ctypes, os, socket, sys, threading, time

kind, port, back = sys.argv[1], int(sys.argv[2]), sys.argv[3]
here = ("127.0.0.1", port)


def listening(at, family=socket.AF_INET):
    l = socket.socket(family)
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    l.bind(at)
    l.listen(128)
    return l


def each(l, serve):
    while True:
        c, _ = l.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()


def body():
    return b"pid=%d version=inner\n" % os.getpid()


def answer(c, text):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))


def http(c, text=body):
    rest = b""
    while True:
        while b"\r\n\r\n" not in rest:
            d = c.recv(4096)
            if not d:
                return c.close()
            rest += d
        head, rest = rest.split(b"\r\n\r\n", 1)
        answer(c, text())
        if b"close" in head:
            return c.close()


def echo(c):
    while d := c.recv(100):
        c.sendall(d)
    c.close()


def once(c):
    c.recv(100)
    c.sendall(body())
    c.close()


def fork_back(serve):
    family, at = (socket.AF_UNIX, back) if "/" in back else (socket.AF_INET, ("127.0.0.1", int(back)))
    if family == socket.AF_UNIX:
        try:
            os.unlink(back)
        except FileNotFoundError:
            pass
    l = listening(at, family)
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG: it ends with the front
        each(l, serve)
    l.close()
    return family, at


if kind == "keeps":
    l = listening(here)
    me = socket.create_connection(here)
    each(l, http)
elif kind == "pool":
    family, at = fork_back(echo)
    pool, lock = socket.socket(family), threading.Lock()
    pool.connect(at)

    def ask():
        with lock:
            pool.sendall(body())
            return pool.recv(100)
    each(listening(here), lambda c: http(c, ask))
elif kind == "asks":
    family, at = fork_back(once)

    def ask():
        time.sleep(0.1)
        with socket.socket(family) as k:
            k.connect(at)
            k.sendall(b"?")
            return k.recv(100)
    each(listening(here), lambda c: http(c, ask))
elif kind == "udp":
    def datagram(peer=None):
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        u.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        u.bind(here)
        if peer:
            u.connect(peer)
        return u
    mine = datagram()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("127.0.0.1", 0))
    client.connect(here)
    talk = datagram(client.getsockname())
    each(listening(here), http)
