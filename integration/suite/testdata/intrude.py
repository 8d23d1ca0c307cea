"""Tries to get an answer from listening sockets that are nobody's business: intrude.py ADDRESS...

ADDRESS is a port of 127.0.0.1, a path, or "@" and an abstract name. Prints those that answer a request.
"""
import socket
import sys

IP_TTL = 2
for address in sys.argv[1:]:
    if address.isdigit():
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_IP, IP_TTL, 255)
        to = ("127.0.0.1", int(address))
    else:
        s = socket.socket(socket.AF_UNIX)
        to = "\0" + address[1:] if address.startswith("@") else address
    s.settimeout(0.5)
    try:
        s.connect(to)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if s.recv(1):
            print(address, "answers")
    except OSError as e:
        print(address, "does not answer:", e, file=sys.stderr)
print("done")
