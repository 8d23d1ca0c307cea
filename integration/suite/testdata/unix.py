"""A server on a unix socket: unix.py NAME. It removes the socket's file when it starts and when it ends, as careful servers do.

NAME is a path, or "@" and an abstract name. "DIR:NAME" changes the directory first, and to / once it has bound.
"""
import os
import signal
import socket
import sys
import threading

name = sys.argv[1]
directory, colon, rest = name.partition(":")
if colon:
    os.chdir(directory)
    name = rest
path = "" if name.startswith("@") else os.path.abspath(name)


def remove():
    try:
        os.unlink(path)
    except FileNotFoundError:
        print("the socket's file is missing", flush=True)


def end(*_):
    if path:
        remove()
    os._exit(0)


def converse(conn):
    data = b""
    try:
        while more := conn.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                body = b"pid=%d version=none\n" % os.getpid()
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                if b"connection: close" in request.lower():
                    return
    except OSError:
        pass
    finally:
        conn.close()


signal.signal(signal.SIGTERM, end)
s = socket.socket(socket.AF_UNIX)
if path:
    if os.path.lexists(path):
        remove()
    s.bind(name)
    os.chdir("/")
else:
    s.bind("\0" + name[1:])
s.listen(128)
while True:
    threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()
