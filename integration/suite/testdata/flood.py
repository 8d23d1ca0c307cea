"""A server that makes a system call go wrong, many times: flood.py PORT VERSION_FILE KIND N. KIND is closed, file or pointer.

It prints "flooded" after that, and serves all the time.
"""
import ctypes
import os
import socket
import sys
import threading

port, version, kind, n = int(sys.argv[1]), open(sys.argv[2]).read().strip(), sys.argv[3], int(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", port))
s.listen(512)


def flood():
    other = socket.socket()
    for _ in range(n):
        if kind == "closed":
            libc.listen(9999, 1)
        elif kind == "file":
            libc.listen(0, 1)
        else:
            libc.bind(other.fileno(), ctypes.c_void_p(8), 16)
    print("flooded", flush=True)


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


threading.Thread(target=flood, daemon=True).start()
while True:
    threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()
