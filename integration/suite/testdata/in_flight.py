"""An HTTP server whose listening socket is in a message to itself while a file is there. argv: PORT FILE"""
import os, select, socket, sys

l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(("127.0.0.1", int(sys.argv[1])))
l.listen(128)
a, b = socket.socketpair()
body = b"pid=%d version=flight\n" % os.getpid()
while True:
    if os.path.exists(sys.argv[2]):
        socket.send_fds(a, [b"x"], [l.fileno()])
        l.close()
        print("in flight", flush=True)
        while os.path.exists(sys.argv[2]):
            select.select([], [], [], 0.01)
        l = socket.socket(fileno=socket.recv_fds(b, 1, 1)[1][0])
        print("landed", flush=True)
    if not select.select([l], [], [], 0.01)[0]:
        continue
    c, _ = l.accept()
    c.recv(4096)
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
    c.close()
