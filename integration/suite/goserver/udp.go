package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// serveDatagrams answers every datagram with the process's id and what was sent. The network before the address is udp, udp4, udp6 or unixgram;
// with "block:" before it one thread waits in recvfrom(2), else the runtime's poller does.
func serveDatagrams(addrs string, after time.Duration) {
	for _, addr := range strings.Split(addrs, ",") {
		if _, rest, ok := strings.Cut(addr, "udp:block/"); ok {
			go echoBlocking(rest)
			continue
		}
		network, rest, _ := strings.Cut(addr, "/")
		conn, err := net.ListenPacket(network, rest)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		raw.Control(func(fd uintptr) { deepen(int(fd)) })
		fmt.Fprintf(os.Stderr, "listening pid=%d addr=%s\n", os.Getpid(), conn.LocalAddr())
		go echo(conn, after)
	}
	select {}
}

// deepen makes room for many datagrams to wait: on a busy machine nobody may read for a second.
func deepen(fd int) {
	if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 32<<20) != nil {
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<20)
	}
}

// echo answers one datagram after the other; with a delay, each on a goroutine of its own, as a server does that asks others first.
func echo(conn net.PacketConn, after time.Duration) {
	buf := make([]byte, 2048)
	head := fmt.Sprintf("%d ", os.Getpid())
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		answer := append([]byte(head), buf[:n]...)
		if after == 0 {
			conn.WriteTo(answer, from)
			continue
		}
		time.AfterFunc(after, func() { conn.WriteTo(answer, from) })
	}
}

// echoBlocking serves an IPv4 address with one thread that waits in recvfrom.
func echoBlocking(addr string) {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	to, err := netip.ParseAddrPort(addr)
	check(err)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	deepen(fd)
	buf := make([]byte, 2048)
	head := fmt.Sprintf("%d ", os.Getpid())
	for {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		check(err)
		check(syscall.Sendto(fd, append([]byte(head), buf[:n]...), 0, from))
	}
}
