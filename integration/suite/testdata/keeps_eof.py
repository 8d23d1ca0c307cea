"""A service that never closes a connection whose client has gone without a word: PORT FILE, or the path of
a unix socket in place of PORT. FILE says "blocking" or
"nonblocking": how its listening socket is, which is waited on in select."""
import os
import select
import socket
import sys
import threading

where, how = sys.argv[1], open(sys.argv[2]).read().strip()
if where.startswith("/"):
    s = socket.socket(socket.AF_UNIX)
    if os.path.exists(where):
        os.unlink(where)
    s.bind(where)
else:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(where)))
s.listen(512)
s.setblocking(how == "blocking")
kept = []


def serve(c):
    c.setblocking(True)
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = c.recv(4096)
        except ConnectionResetError:  # a probe's; a traceback would get into the midst of a line of the log
            more = b""
        if not more:
            kept.append(c)
            return
        data += more
    body = b"pid=%d version=%s\n" % (os.getpid(), how.encode())
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
    c.close()


while True:
    select.select([s], [], [])
    try:
        c, _ = s.accept()
    except BlockingIOError:
        continue
    threading.Thread(target=serve, args=(c,), daemon=True).start()
