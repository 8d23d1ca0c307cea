"""Services that do the usual things with a listening socket in an unusual order: order.py KIND PORT [FILE].

dup     binds a socket and listens on a duplicate that it made before, under another number; the first is closed
epoll   registers the socket in an epoll set before it binds it, with data and flags of its own
late    binds, and listens half a second later
twice   binds once to see whether it can, closes that, and binds in earnest
child   hands the listening socket to a child over SCM_RIGHTS, and the child alone serves
vsock   listens on an AF_VSOCK port as well, the one of the same number
grow    listens on as many sockets of one SO_REUSEPORT group as FILE says, and fails a moment later, before it accepts, if FILE says that as well
group   the same, and lets a program of its own choose the first for every client
"""
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

kind, port = sys.argv[1], int(sys.argv[2])
body = b"pid=%d version=%s\n"


def converse(conn, version=b"none"):
    conn.setblocking(True)
    data = b""
    try:
        while more := conn.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                text = body % (os.getpid(), version)
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
                if b"connection: close" in request.lower():
                    return
    except OSError:
        pass
    finally:
        conn.close()


def made():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return s


def serve(s):
    while True:
        threading.Thread(target=converse, args=(s.accept()[0],), daemon=True).start()


def dup():
    first = made()
    second = first.dup()
    first.bind(("127.0.0.1", port))
    if second.getsockname() != ("127.0.0.1", port):
        sys.exit("the duplicate is not bound: %r" % (second.getsockname(),))
    second.listen(512)
    first.close()
    serve(second)


def epoll():
    s = made()
    s.setblocking(False)
    # Not Python's own epoll, whose data is the number.
    libc = ctypes.CDLL(None, use_errno=True)
    ep = libc.epoll_create1(0)
    cookie = 0x1122334455667788
    event = struct.pack("=IQ", select.EPOLLIN | select.EPOLLET, cookie)
    if libc.epoll_ctl(ep, 1, s.fileno(), event):
        sys.exit("epoll_ctl: %d" % ctypes.get_errno())
    s.bind(("127.0.0.1", port))
    s.listen(512)
    if s.getblocking():
        sys.exit("the socket blocks")
    events = ctypes.create_string_buffer(12)
    while True:
        if libc.epoll_wait(ep, events, 1, -1) != 1:
            continue
        flags, data = struct.unpack("=IQ", events.raw)
        if data != cookie:
            sys.exit("the data is %x" % data)
        while True:
            try:
                conn = s.accept()[0]
            except BlockingIOError:
                break
            threading.Thread(target=converse, args=(conn,), daemon=True).start()


def late():
    s = made()
    s.bind(("127.0.0.1", port))
    time.sleep(0.5)
    s.listen(512)
    serve(s)


def twice():
    trial = made()
    trial.bind(("127.0.0.1", port))
    trial.close()
    s = made()
    s.bind(("127.0.0.1", port))
    s.listen(512)
    serve(s)


def child():
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
        serve(socket.socket(fileno=fds[0]))
    theirs.close()
    s = made()
    s.bind(("127.0.0.1", port))
    s.listen(512)
    socket.send_fds(ours, [b"x"], [s.fileno()])
    s.close()

    def end(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.killpg(0, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    os.wait()


def vsock():
    machine = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    machine.bind((socket.VMADDR_CID_ANY, port))
    machine.listen(16)
    threading.Thread(target=serve, args=(machine,), daemon=True).start()
    s = made()
    s.bind(("127.0.0.1", port))
    s.listen(512)
    serve(s)


def grow():
    members, fails = joined()
    if fails:
        time.sleep(0.1)
        sys.exit(3)
    serve_all(members)


def joined():
    with open(sys.argv[3]) as f:
        count, *fails = f.read().split()
    members = [made() for _ in range(int(count))]
    for s in members:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("127.0.0.1", port))
        s.listen(512)
    return members, fails


def serve_all(members):
    for s in members[1:]:
        threading.Thread(target=serve, args=(s,), daemon=True).start()
    serve(members[0])


def group():
    members, _ = joined()
    choose_first = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K
    SO_ATTACH_REUSEPORT_CBPF = 51
    members[0].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("HL", 1, ctypes.addressof(choose_first)))
    serve_all(members)


globals()[kind]()
