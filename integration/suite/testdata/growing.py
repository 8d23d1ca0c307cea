"""A server that makes unix sockets one after the other, listens on each and closes it: growing.py PORT VERSION_FILE DIR N.

It prints "made" after that, and serves all the time.
"""
import os
import socket
import sys
import threading

port, version, directory, n = int(sys.argv[1]), open(sys.argv[2]).read().strip(), sys.argv[3], int(sys.argv[4])
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", port))
s.listen(512)


def make():
    for i in range(n):
        u = socket.socket(socket.AF_UNIX)
        path = "%s/%d.%d" % (directory, os.getpid(), i)
        u.bind(path)
        u.listen(1)
        u.close()
        os.unlink(path)
    print("made", flush=True)


def converse(conn):
    with conn:
        data = b""
        while more := conn.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                body = b"pid=%d version=%s\n" % (os.getpid(), version.encode())
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                if b"connection: close" in request.lower():
                    return


threading.Thread(target=make, daemon=True).start()
while True:
    threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()
