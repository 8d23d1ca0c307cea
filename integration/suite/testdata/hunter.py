"""Hunts for a port: PORT FILE. It tries its port (by a bind that it gives up again where FILE says "trial"), and where FILE says "next" it takes
the next one, because the first is not to its liking."""
import os
import socket
import sys
import threading

port, file = int(sys.argv[1]), sys.argv[2]
how = open(file).read().strip() if os.path.exists(file) else ""


def bound(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    return s


if how == "trial":
    s = bound(port)
    s.listen(1)
    s.close()
if how == "next":
    s = bound(port)
    s.close()
    while True:
        port += 1
        try:
            s = bound(port)
            break
        except OSError:
            pass
else:
    s = bound(port)
s.listen(128)


def handle(c):
    with c:
        if c.recv(4096):
            body = b"pid=%d version=1\n" % os.getpid()
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


while True:
    c, _ = s.accept()
    threading.Thread(target=handle, args=(c,), daemon=True).start()
