"""anybody.py ADDR [PIDFILE]: a server that refuses to start where somebody answers on its address: a TCP port, a path, or "@" and an abstract name.

With PIDFILE it looks instead whether a process lives whose PID is in that file.
"""
import os
import socket
import sys
import threading

addr = sys.argv[1]
kind = socket.AF_UNIX
if addr.startswith("/"):
    target = addr
elif addr.startswith("@"):
    target = "\0" + addr[1:]
else:
    kind, target = socket.AF_INET, ("127.0.0.1", int(addr))


def another(why):
    print("another instance runs:", why, flush=True)
    sys.exit(1)


if len(sys.argv) > 2:
    try:
        os.kill(int(open(sys.argv[2]).read()), 0)
        another("its process lives")
    except (FileNotFoundError, ProcessLookupError):
        pass
    open(sys.argv[2], "w").write(str(os.getpid()))
else:
    probe = socket.socket(kind)
    probe.settimeout(5)
    try:
        probe.connect(target)
        another("it answers")
    except (ConnectionRefusedError, FileNotFoundError) as e:
        print("nobody there:", e, flush=True)
    probe.close()
if kind == socket.AF_UNIX and addr.startswith("/") and os.path.exists(addr):
    os.unlink(addr)


def converse(conn):
    data = b""
    try:
        while more := conn.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                if b"GET /out" in request:  # over a connection to itself, which is nobody's business once it serves
                    out = socket.socket(kind)
                    out.connect(target)
                    out.close()
                body = b"pid=%d version=none\n" % os.getpid()
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                if b"connection: close" in request.lower():
                    return
    except OSError:
        pass
    finally:
        conn.close()


s = socket.socket(kind)
if kind == socket.AF_INET:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(target)
s.listen(256)
while True:
    threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()
