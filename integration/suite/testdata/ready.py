"""A service that says in several ways when it is ready: PORT FILE. FILE holds words, none where it is missing:

health=S   /health answers 503 for the first S seconds
hang       /health gives no answer, as long as the word is there
notify=S   READY=1 is said to NOTIFY_SOCKET S seconds after listen; STATUS=loading at once
closes     closes its socket at once, and ends a second later with status 3
accepted   the port of each client that was accepted is said on standard error

It says on standard error what it was given to notify."""
import os
import socket
import sys
import threading
import time

port, file = int(sys.argv[1]), sys.argv[2]
began = time.monotonic()


def words():
    text = open(file).read() if os.path.exists(file) else ""
    return dict((w.split("=") + [""])[:2] for w in text.split())


def say(text):
    os.write(2, text.encode() + b"\n")


at_start = words()


def notify(text):
    name = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), "\0" + name[1:] if name[0] == "@" else name)


def notify_later():
    time.sleep(float(at_start["notify"]))
    say("pid %d says READY" % os.getpid())
    notify("READY=1")


def answer(request):
    status, body = b"200 OK", b"pid=%d version=1\n" % os.getpid()
    if request.startswith(b"GET /health"):
        while "hang" in words():
            time.sleep(0.05)
        if time.monotonic() - began < float(at_start.get("health", 0)):
            status, body = b"503 Service Unavailable", b"pid=%d is still loading\n" % os.getpid()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


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


for variable in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
    say("pid %d has %s=%s" % (os.getpid(), variable, os.environ.get(variable, "")))
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", port))
s.listen(512)
if "closes" in at_start:
    s.close()
    time.sleep(1)
    sys.exit(3)
if "notify" in at_start and "NOTIFY_SOCKET" in os.environ:
    notify("STATUS=loading")
    threading.Thread(target=notify_later, daemon=True).start()
while True:
    c, address = s.accept()
    if "accepted" in at_start:
        say("pid %d accepted %d" % (os.getpid(), address[1]))
    threading.Thread(target=handle, args=(c,), daemon=True).start()
