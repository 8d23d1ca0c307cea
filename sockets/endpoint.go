package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// Endpoint is an address that the supervisor itself is to listen on (--listen).
type Endpoint struct {
	text string // as it was written

	addr   netip.AddrPort // of tcp; the zone is a number
	v6only bool           // asked for by tcp6
	any    bool           // no host was written: IPv6 and IPv4, or what there is
	name   string         // of unix: an absolute path, or "@" and an abstract name
}

// ParseEndpoint reads tcp://ADDR:PORT, tcp6://[ADDR]:PORT (IPv6 only), unix:///PATH or unix://@NAME. The error says what to write.
//
// Of tcp://[::]:PORT, whether IPv4 clients come too is not the text's to say: they do, as with net.ipv6.bindv6only at its default, unless another
// endpoint is 0.0.0.0 with the same port. A service gets the socket only if it asks for the same (IPV6_V6ONLY).
func ParseEndpoint(text string) (Endpoint, error) {
	e := Endpoint{text: text}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return e, errors.New("write tcp://ADDRESS:PORT, unix:///PATH or unix://@NAME")
	}
	switch scheme {
	case "unix":
		return e, e.parseUnix(rest)
	case "tcp", "tcp6":
		return e, e.parseTCP(scheme, rest)
	}
	return e, fmt.Errorf("there is no %s:// here; write tcp://, tcp6:// or unix://", scheme)
}

func (e *Endpoint) parseUnix(name string) error {
	e.name = name
	switch {
	case !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") || strings.Contains(name, "\x00"):
		return errors.New("write an absolute path (unix:///run/my.sock), or @ and a name (unix://@my)")
	case name == "@" || strings.HasSuffix(name, "/"):
		return errors.New("the name of the socket is missing")
	case len(name) > sockaddr.SizeofUn-3: // the family, and a NUL behind a path
		return fmt.Errorf("a unix socket's name has at most %d bytes", sockaddr.SizeofUn-3)
	}
	return nil
}

func (e *Endpoint) parseTCP(scheme, rest string) error {
	host, service, err := net.SplitHostPort(rest)
	if err != nil {
		return fmt.Errorf("write %s://ADDRESS:PORT, and an IPv6 address in brackets", scheme)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return errors.New("write a port from 1 to 65535")
	}
	if host == "" {
		e.any = scheme == "tcp"
		host = "::"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return errors.New("write the address as numbers (127.0.0.1, [::1], [fe80::1%eth0]), or none for all")
	}
	if scheme == "tcp6" && !addr.Is6() {
		return errors.New("tcp6:// is for IPv6 addresses")
	}
	if zone := addr.Zone(); zone != "" {
		if !sockaddr.NeedsScope(addr.WithZone("")) {
			return errors.New("only link-local addresses have a zone")
		}
		if _, err := strconv.ParseUint(zone, 10, 31); err != nil {
			device, err := net.InterfaceByName(zone)
			if err != nil {
				return fmt.Errorf("there is no network interface %s", zone)
			}
			addr = addr.WithZone(strconv.Itoa(device.Index))
		}
	}
	e.addr = netip.AddrPortFrom(addr, uint16(port))
	e.v6only = scheme == "tcp6"
	return nil
}

// String is the endpoint as it was written.
func (e Endpoint) String() string { return e.text }

// open makes the socket and listens on it, with as long a queue as the system allows. all are the endpoints that there are. The caller owns
// what it returns.
func (e Endpoint) open(all []Endpoint, sharing bool) (int, error) {
	if e.name != "" {
		return e.openUnix()
	}
	if e.any {
		fd, err := e.openTCP(all, sharing)
		if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fd, err
		}
		e.addr = netip.AddrPortFrom(netip.IPv4Unspecified(), e.addr.Port()) // a kernel without IPv6
	}
	return e.openTCP(all, sharing)
}

func (e Endpoint) openTCP(all []Endpoint, sharing bool) (fd int, err error) {
	ip, port := e.addr.Addr(), int(e.addr.Port())
	family := unix.AF_INET
	var to unix.Sockaddr
	if ip.Is4() {
		to = &unix.SockaddrInet4{Addr: ip.As4(), Port: port}
	} else {
		zone, _ := strconv.ParseUint(ip.Zone(), 10, 32)
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: port, ZoneId: uint32(zone)}
	}
	if fd, err = newStream(family); err != nil {
		return -1, err
	}
	defer closeUnless(&err, fd)
	options := []struct{ level, name, value int }{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}}
	if sharing {
		options = append(options, struct{ level, name, value int }{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	if family == unix.AF_INET6 {
		only := 0
		if e.v6only || ip.IsUnspecified() && besideIPv4(all, e.addr.Port()) {
			only = 1
		}
		options = append(options, struct{ level, name, value int }{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, to); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, os.NewSyscallError("listen", unix.Listen(fd, math.MaxInt32))
}

// besideIPv4 tells whether all of IPv4 has an endpoint of its own.
func besideIPv4(all []Endpoint, port uint16) bool {
	for _, e := range all {
		if e.addr == netip.AddrPortFrom(netip.IPv4Unspecified(), port) {
			return true
		}
	}
	return false
}

// openUnix makes a unix socket. Its file may be read and written by all, as systemd makes them (SocketMode= in systemd.socket(5)): who may connect is
// for the directory to say. It changes the umask of the whole process for a moment, so call it before anything is started.
func (e Endpoint) openUnix() (fd int, err error) {
	if fd, err = newStream(unix.AF_UNIX); err != nil {
		return -1, err
	}
	defer closeUnless(&err, fd)
	if e.name[0] == '/' {
		if err := removeStale(e.name); err != nil {
			return -1, err
		}
	}
	old := unix.Umask(0o111)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: e.name})
	unix.Umask(old)
	if err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, math.MaxInt32); err != nil {
		e.removeFile()
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// removeFile removes the file of a unix socket that was made a moment ago and is of no use.
func (e Endpoint) removeFile() {
	if e.name != "" && e.name[0] == '/' {
		_ = unix.Unlink(e.name)
	}
}

// removeStale removes the file of a socket that nobody answers on.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of this name that is no socket; remove it, or name another")
	}
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(client)
	switch err := unix.Connect(client, &unix.SockaddrUnix{Name: path}); err {
	case unix.ECONNREFUSED:
		return unix.Unlink(path)
	case unix.ENOENT:
		return nil
	case nil, unix.EAGAIN, unix.EPROTOTYPE:
		return errors.New("another process listens on it; stop that, or name another")
	default:
		return os.NewSyscallError("connect", err)
	}
}

func newStream(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

func closeUnless(err *error, fd int) {
	if *err != nil {
		unix.Close(fd)
	}
}
