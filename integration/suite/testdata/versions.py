"""A service whose next version is good or broken in one way: KIND PORT FILE. FILE holds the behaviour, "good" where there is none.
In place of the port there may be the path of a unix socket.

Kinds: thread (a thread for each connection), asyncio, prefork (workers are forked, each fails or serves), master (a master binds and
listens, and keeps starting workers that load the application)."""
import asyncio
import ctypes
import fcntl
import os
import signal
import socket
import sys
import threading
import time

kind, where, file = sys.argv[1:4]
behaviour = open(file).read().strip() if os.path.exists(file) else "good"


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)  # another thread gets it: this one is not to answer meanwhile


def later(seconds, act):
    def run():
        time.sleep(seconds)
        act()
    threading.Thread(target=run, daemon=True).start()


def wrong():
    """An event loop that finds its socket blocking would hang in accept where somebody else has taken the client."""
    return kind == "asyncio" and not fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK


def answer(path):
    if wrong():
        return b"HTTP/1.1 500 The socket is blocking\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    if behaviour == "crashes at its first client":
        crash()
    if behaviour == "answers after 3 s":
        time.sleep(3)
    if behaviour == "answers 500":
        return b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = b"pid=%d version=%s\n" % (os.getpid(), behaviour.replace(" ", "-").encode())
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)


def listening():
    if behaviour == "exits before bind":
        sys.exit(3)
    if where.startswith("/"):
        s = socket.socket(socket.AF_UNIX)
        if os.path.exists(where):
            os.unlink(where)
        s.bind(where)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(where)))
    if behaviour == "exits after bind":
        sys.exit(3)
    if kind == "asyncio":
        s.setblocking(False)
    s.listen(512)
    if behaviour == "exits after listen":
        sys.exit(3)
    return s


def begun(s):
    """What happens when it listens, in the process that serves."""
    if behaviour == "exits after 1 s":
        later(1, lambda: os._exit(3))
    elif behaviour == "exits after 4 s":
        later(4, lambda: os._exit(3))
    elif behaviour == "SIGSEGV":
        later(0.2, crash)
    elif behaviour == "shuts its listener down":
        s.shutdown(socket.SHUT_RDWR)
        sys.exit(3)
    elif behaviour == "warms up 3 s":
        time.sleep(3)
    elif behaviour == "never accepts":
        while True:
            time.sleep(60)
    elif behaviour == "loads 2 s and fails":
        time.sleep(2)
        sys.exit(3)


def handle(c):
    c.settimeout(20)
    with c:
        try:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                got = c.recv(4096)
                if not got:
                    return
                request += got
            c.sendall(answer(request))
        except OSError:
            pass


def serve_threads(s):
    while True:
        c, _ = s.accept()
        threading.Thread(target=handle, args=(c,), daemon=True).start()


async def serve_asyncio(s):
    async def client(r, w):
        try:
            request = await r.readuntil(b"\r\n\r\n")
            if behaviour == "answers after 3 s":
                await asyncio.sleep(3)
                globals()["behaviour"] = "good"
                w.write(answer(request))
                globals()["behaviour"] = "answers after 3 s"
            else:
                w.write(answer(request))
            await w.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        w.close()
    server = await asyncio.start_server(client, sock=s)
    await server.serve_forever()


def worker(s):
    begun(s)
    serve_threads(s)


signal.signal(signal.SIGTERM, signal.SIG_DFL)
s = listening()
if kind == "thread":
    begun(s)
    serve_threads(s)
elif kind == "asyncio":
    begun(s)
    asyncio.run(serve_asyncio(s))
else:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing is left of a master that is killed
    children = set()
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            worker(s)
        children.add(pid)

    def stop(*_):
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        os._exit(0)
    signal.signal(signal.SIGTERM, stop)
    while True:
        pid, status = os.wait()
        children.discard(pid)
        if kind == "prefork":
            stop_status = os.waitstatus_to_exitcode(status)
            for other in children:
                os.kill(other, signal.SIGKILL)
            os._exit(stop_status if stop_status > 0 else 3)
        time.sleep(0.1)  # a master goes on to start workers, as gunicorn does
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            worker(s)
        children.add(pid)
