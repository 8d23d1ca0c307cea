"""Asks a service's /health as a command of a probe: WAY HOST PORT FILE.

FILE gets a line for each answer: the generation that is asked about, the status, and the process that answered. The
status is 0 where the last answer was 200. WAY is how it connects:

blocking   connect waits
epoll      the socket is non-blocking, and in an epoll set before it is connected, as Go's are
poll       the socket is non-blocking, and asked once more while it connects
twice      two connections, the first of which stays open
bound      from a port of its own choice
loop       twenty connections, one after the other"""
import errno
import os
import re
import select
import socket
import sys

way, host, port, file = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def connected():
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if way == "bound":
        s.bind((host, 0))
    if way not in ("epoll", "poll"):
        s.connect((host, port))
        return s
    s.setblocking(False)
    if way == "epoll":
        ready = select.epoll()
        ready.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    error = s.connect_ex((host, port))
    while error == errno.EINPROGRESS:
        if way == "epoll":
            ready.poll()
        else:
            again = s.connect_ex((host, port))
            if again not in (0, errno.EALREADY, errno.EISCONN):
                sys.exit("connect once more: %s" % os.strerror(again))
            select.select([], [s], [])
        error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        sys.exit(os.strerror(error))
    s.setblocking(True)
    return s


def ask(s):
    s.sendall(b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    answer = b""
    while got := s.recv(4096):
        answer += got
    status, pid = answer.split()[1].decode(), re.search(rb"pid=(\d+)", answer)
    with open(file, "a") as f:
        f.write("%s %s %s\n" % (os.environ["HUPTIME_GENERATION"], status, pid[1].decode() if pid else "-"))
    return status


if way == "twice":
    first, second = connected(), connected()
    ask(first)
    status = ask(second)
else:
    for i in range(20 if way == "loop" else 1):
        status = ask(connected())
sys.exit(status != "200")
