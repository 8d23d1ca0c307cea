"""A naive server: PORT. It does nothing but accept, in threads, and says so where a client has gone before it asked anything."""
import os
import socket
import sys
import threading

s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(128)


def serve():
    while True:
        c, _ = s.accept()
        with c:
            if not c.recv(4096):
                print("nothing asked", flush=True)
                continue
            body = b"pid=%d version=1\n" % os.getpid()
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


for _ in range(3):
    threading.Thread(target=serve, daemon=True).start()
serve()
