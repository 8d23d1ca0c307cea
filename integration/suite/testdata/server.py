"""The services of the original huptime's suite, and three more, as small as they can be.

server.py KIND PORT VERSION_FILE. Speaks as much HTTP/1.1 as the clients of the tests need.
"""
import os
import select
import signal
import socket
import sys
import threading

kind, port, version_file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
version = open(version_file).read().strip()
POOL = 10 if kind in ("threadpool", "processpool") else 4


def answer(data):
    """Returns the response to one request, and whether the connection goes on."""
    body = b"pid=%d version=%s\n" % (os.getpid(), version.encode())
    goes_on = b"connection: close" not in data.lower()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, goes_on


def converse(conn):
    data = b""
    try:
        while True:
            more = conn.recv(65536)
            if not more:
                break
            data += more
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                response, goes_on = answer(request + b"\r\n")
                conn.sendall(response)
                if not goes_on:
                    return
    except OSError:
        pass
    finally:
        conn.close()


def listening():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen(512)
    return s


def serial():
    s = listening()
    while True:
        converse(s.accept()[0])


def selecting():
    # The listening socket blocks: the way of many small servers, and the worst case for a shared socket.
    s = listening()
    waiting = {}
    while True:
        readable, _, _ = select.select([s, *waiting], [], [])
        for c in readable:
            if c is s:
                waiting[s.accept()[0]] = b""
                continue
            try:
                more = c.recv(65536)
            except OSError:
                more = b""
            data = waiting[c] + more
            goes_on = bool(more)
            while goes_on and b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                response, goes_on = answer(request + b"\r\n")
                c.sendall(response)
            waiting[c] = data
            if not goes_on:
                del waiting[c]
                c.close()


def thread():
    s = listening()
    while True:
        threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()


def process():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    s = listening()
    while True:
        conn, _ = s.accept()
        if os.fork() == 0:
            s.close()
            converse(conn)
            os._exit(0)
        conn.close()


def accept_for_ever(s):
    while True:
        converse(s.accept()[0])


def threadpool():
    s = listening()
    for _ in range(POOL):
        threading.Thread(target=accept_for_ever, args=(s,), daemon=True).start()
    threading.Event().wait()


def processpool():
    s = listening()
    workers = []
    for _ in range(POOL):
        pid = os.fork()
        if pid == 0:
            accept_for_ever(s)
        workers.append(pid)

    def end(*_):
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        os.wait()


def asynchronous():
    import asyncio

    async def serve(reader, writer):
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                response, goes_on = answer(request)
                writer.write(response)
                await writer.drain()
                if not goes_on:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(main())


def daemon():
    """Double fork, a session of its own, every descriptor closed: the way of old."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 1024)
    for _ in range(3):
        os.open("/dev/null", os.O_RDWR)
    thread()


def gunicorn():
    """A master that forks workers which accept on its socket, and forks again whoever dies."""
    s = listening()
    workers = set()
    ending = []

    def end(*_):
        ending.append(1)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    term = {signal.SIGTERM}
    while not ending or workers:
        # A worker that is not in the set yet would miss its SIGTERM: none comes meanwhile.
        signal.pthread_sigmask(signal.SIG_BLOCK, term)
        while len(workers) < POOL and not ending:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, term)
                for _ in range(200):
                    converse(s.accept()[0])
                os._exit(0)  # like max_requests: the master forks another
            workers.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, term)
        try:
            workers.discard(os.wait()[0])
        except (ChildProcessError, InterruptedError):
            pass
    os._exit(0)


def mutex():
    """Prefork with select and a lock around accept, as Apache once did."""
    import fcntl
    import tempfile
    s = listening()
    s.setblocking(False)
    lock = tempfile.TemporaryFile()
    workers = []
    for _ in range(POOL):
        workers.append(os.fork())
        if workers[-1] == 0:
            break
    if 0 not in workers:
        def end(*_):
            for pid in workers:
                os.kill(pid, signal.SIGTERM)
            os._exit(0)

        signal.signal(signal.SIGTERM, end)
        while True:
            os.wait()
    while True:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        try:
            select.select([s], [], [])
            conn = s.accept()[0]
        except BlockingIOError:
            continue
        finally:
            fcntl.lockf(lock, fcntl.LOCK_UN)
        conn.setblocking(True)
        converse(conn)


{
    "daemon": daemon,
    "gunicorn": gunicorn,
    "mutex": mutex,
    "serial": serial,
    "select": selecting,
    "thread": thread,
    "process": process,
    "threadpool": threadpool,
    "processpool": processpool,
    "prefork": processpool,
    "asyncio": asynchronous,
}[kind]()
