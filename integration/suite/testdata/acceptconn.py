"""Listens only where its socket does not listen yet (SO_ACCEPTCONN), as haproxy does: PORT."""
import os
import socket
import sys
import threading

s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
    s.listen(128)


def handle(c):
    with c:
        if c.recv(4096):
            body = b"pid=%d version=1\n" % os.getpid()
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


while True:
    c, _ = s.accept()
    threading.Thread(target=handle, args=(c,), daemon=True).start()
