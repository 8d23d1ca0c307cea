"""An HTTP server that binds what does not listen. argv: HOW WHERE MORE

reuseport, reuseaddr   WHERE is a port, MORE is ORDER:PORT: dials that port from its own, before it listens there or after (dial, listen)
renamed                WHERE is a path: binds another name beside it, renames that to WHERE, and then listens; MORE: the name, or * for a new one
"""
import os, socket, sys, threading

how, where, more = sys.argv[1:4]


def bound():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if how == "reuseaddr" else socket.SO_REUSEPORT, 1)
    if how == "reuseport":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(where)))
    return s


if how == "renamed":
    l = socket.socket(socket.AF_UNIX)
    name = where + ("." + os.urandom(4).hex() if more == "*" else more)
    l.bind(name)
    os.rename(name, where)
    l.listen(128)
else:
    order, port = more.split(":")
    meet = ("127.0.%d.%d" % (os.getpid() // 250 % 250, os.getpid() % 250 + 2), int(port))
    if order == "dial":
        out = bound()
        out.connect(meet)
        l = bound()
        l.listen(128)
    else:
        l = bound()
        l.listen(128)
        out = bound()
        out.connect(meet)

body = b"pid=%d version=late\n" % os.getpid()


def serve(c):
    rest = b""
    while d := c.recv(4096):
        rest += d
        while b"\r\n\r\n" in rest:
            head, rest = rest.split(b"\r\n\r\n", 1)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            if b"close" in head:
                return c.close()
    c.close()


while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
