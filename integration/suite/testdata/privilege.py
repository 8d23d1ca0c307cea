"""Services of which a part has less privilege than another.

privilege.py bind ADDR FILE: listens on a TCP port or a unix path; if FILE is there, as nobody.
privilege.py unlink PORT PATH FILE: listens on a TCP port and, unless FILE is there, on a unix path, which a worker of nobody's tries to remove.
"""
import os
import socket
import sys
import threading
import time


def drop():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def listen(addr):
    if addr.startswith("/"):
        s = socket.socket(socket.AF_UNIX)
        try:
            os.unlink(addr)
        except OSError as e:
            print(f"unlink: {e}", flush=True)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        addr = ("127.0.0.1", int(addr))
    try:
        s.bind(addr)
    except OSError as e:
        print(f"uid {os.getuid()} bind: {e}", flush=True)
        sys.exit(1)
    s.listen(64)
    return s


def remove(path):
    last = None
    while True:
        try:
            os.unlink(path)
            print("worker: unlink succeeded", flush=True)
            time.sleep(3600)
        except OSError as e:
            if str(e) != last:
                last = str(e)
                print(f"worker: {last}", flush=True)
        time.sleep(0.005)


def converse(conn):
    data = b""
    try:
        while more := conn.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                body = b"pid=%d version=%d\n" % (os.getpid(), os.getuid())
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                if b"connection: close" in request.lower():
                    return
    except OSError:
        pass
    finally:
        conn.close()


def serve(s):
    while True:
        threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()


what, addr = sys.argv[1:3]
if what == "bind":
    if os.path.exists(sys.argv[3]):
        drop()
    s = listen(addr)
else:
    s = listen(addr)
    if not os.path.exists(sys.argv[4]):
        other = listen(sys.argv[3])
        if os.fork() == 0:
            drop()
            remove(sys.argv[3])
        # It is ready only when somebody waits for clients there.
        threading.Thread(target=serve, args=(other,), daemon=True).start()
serve(s)
