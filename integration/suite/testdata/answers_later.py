"""A UDP service that answers later. argv: HOW PORT UPSTREAM-PORT SECONDS

sleeps   answers after SECONDS, from an event loop (epoll)
epoll, poll, threads   asks the upstream by a connected socket for each question
"""
import asyncio, os, selectors, socket, sys, threading

how, port, upstream, seconds = sys.argv[1], int(sys.argv[2]), ("127.0.0.1", int(sys.argv[3])), float(sys.argv[4])


def answer(q):
    return b"%d %s" % (os.getpid(), q)


def ask(q):
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.connect(upstream)
    u.send(q)
    return u


class Slow(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.t = transport

    def datagram_received(self, q, client):
        asyncio.get_running_loop().call_later(seconds, self.t.sendto, answer(q), client)


async def slow():
    await asyncio.get_running_loop().create_datagram_endpoint(Slow, local_addr=("127.0.0.1", port))
    await asyncio.Event().wait()

if how == "sleeps":
    asyncio.run(slow())

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", port))
if how == "threads":
    def each(q, client):
        u = ask(q)
        s.sendto(answer(u.recv(2048)), client)
        u.close()
    while True:
        threading.Thread(target=each, args=s.recvfrom(2048), daemon=True).start()

sel = selectors.EpollSelector() if how == "epoll" else selectors.PollSelector()
s.setblocking(False)
sel.register(s, selectors.EVENT_READ)
while True:
    for key, _ in sel.select():
        if key.fileobj is s:
            try:
                q, client = s.recvfrom(2048)
            except BlockingIOError:
                continue
            sel.register(ask(q), selectors.EVENT_READ, client)
        else:
            u, client = key.fileobj, key.data
            s.sendto(answer(u.recv(2048)), client)
            sel.unregister(u)
            u.close()
