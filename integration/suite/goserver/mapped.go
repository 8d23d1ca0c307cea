package main

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// listenMapped listens on an IPv4 address with an IPv6 socket (ipv6(7), "IPv4-mapped"), which the net package never does.
func listenMapped(addr string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), addr)
	defer file.Close()
	for _, o := range [][3]int{{syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1}, {syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0}} {
		if err := syscall.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return nil, err
		}
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}); err != nil {
		return nil, err
	}
	if err := syscall.Listen(fd, 128); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}
