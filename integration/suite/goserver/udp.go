package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// serveDatagrams answers every datagram with the process's id and what was sent. The network before the address is udp, udp4, udp6 or unixgram;
// with "block:" before it one thread waits in recvfrom(2), else the runtime's poller does.
func serveDatagrams(addrs string, after time.Duration) {
	for _, addr := range strings.Split(addrs, ",") {
		how, rest, ok := strings.Cut(addr, ":block/")
		if !ok {
			how, rest, _ = strings.Cut(addr, "/")
		}
		conn, err := net.ListenPacket(how, rest)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		raw := conn.(interface{ File() (*os.File, error) })
		conn.(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 20)
		fmt.Fprintf(os.Stderr, "listening pid=%d addr=%s\n", os.Getpid(), conn.LocalAddr())
		if !ok {
			go echo(conn, after)
			continue
		}
		file, err := raw.File()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		conn.Close()
		go echoBlocking(file)
	}
	select {}
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

func echoBlocking(file *os.File) {
	fd := int(file.Fd()) // blocking from here on
	syscall.SetNonblock(fd, false)
	buf := make([]byte, 2048)
	head := fmt.Sprintf("%d ", os.Getpid())
	for {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, "recvfrom:", err)
			os.Exit(1)
		}
		if err := syscall.Sendto(fd, append([]byte(head), buf[:n]...), 0, from); err != nil {
			fmt.Fprintln(os.Stderr, "sendto:", err)
		}
	}
}
