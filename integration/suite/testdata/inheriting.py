"""A master that binds a blocking socket and two workers that make it non-blocking and listen on it, as uvicorn's do: PORT."""
import asyncio
import os
import signal
import socket
import sys
import time

s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))


async def serve():
    async def client(r, w):
        try:
            await r.readuntil(b"\r\n\r\n")
            body = b"pid=%d version=1\n" % os.getpid()
            w.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
            await w.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        w.close()
    server = await asyncio.start_server(client, sock=s)
    await server.serve_forever()


workers = []
for i in range(2):
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2 + 0.1 * i)  # loads its application
        asyncio.run(serve())
    workers.append(pid)


def stop(*_):
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        os.waitpid(pid, 0)
    os._exit(0)


signal.signal(signal.SIGTERM, stop)
signal.pause()
