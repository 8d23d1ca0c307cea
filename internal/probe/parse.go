package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxName is how long a host's name can be, in bytes (RFC 1035, 2.3.4).
const maxName = 255

var (
	errUnknown = errors.New("unknown probe: use wait, notify, tcp://HOST:PORT, http://HOST:PORT/PATH, " +
		"https://HOST:PORT/PATH, grpc://HOST:PORT[/SERVICE] or exec:COMMAND")
	errNUL = errors.New("there is a NUL byte in it")
)

// Parse reads a probe as --ready gives it. The error is one line that says what to write; it does not quote the text,
// which may hold a password.
func Parse(text string) (Probe, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return Probe{}, errNUL
	}
	switch text {
	case "wait":
		return Probe{kind: Wait}, nil
	case "notify":
		return Probe{kind: Notify}, nil
	}
	word, rest, _ := strings.Cut(text, ":")
	switch word {
	case "exec":
		if strings.TrimSpace(rest) == "" {
			return Probe{}, errors.New("no command: write exec:COMMAND")
		}
		return Probe{kind: Exec, command: rest}, nil
	case "tcp":
		return parseTCP(rest)
	case "http":
		return parseURL(HTTP, text)
	case "https":
		return parseURL(HTTPS, text)
	case "grpc":
		return parseGRPC(rest)
	}
	return Probe{}, errUnknown
}

func parseTCP(rest string) (p Probe, err error) {
	const form = "tcp://HOST:PORT"
	p.kind = TCP
	address := strings.TrimPrefix(rest, "//")
	if strings.ContainsRune(address, '/') {
		return Probe{}, fmt.Errorf("tcp takes no path: write %s", form)
	}
	if p.host, p.port, err = splitAddress(address, form); err != nil {
		return Probe{}, err
	}
	return p, nil
}

func parseGRPC(rest string) (p Probe, err error) {
	const form = "grpc://HOST:PORT[/SERVICE]"
	p.kind = GRPC
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return Probe{}, fmt.Errorf("no host: write %s", form)
	}
	address, service, _ := strings.Cut(rest, "/")
	if p.host, p.port, err = splitAddress(address, form); err != nil {
		return Probe{}, err
	}
	// Names of services are identifiers with dots in practice; this only keeps out what can be no name.
	for _, c := range []byte(service) {
		if c <= ' ' || c >= 0x7f || c == '/' {
			return Probe{}, fmt.Errorf("a service is named like grpc.health.v1.Health: write %s", form)
		}
	}
	p.service = service
	return p, nil
}

func parseURL(kind Kind, text string) (p Probe, err error) {
	form := kind.String() + "://HOST:PORT/PATH"
	if !strings.HasPrefix(text, kind.String()+"://") {
		return Probe{}, fmt.Errorf("no host: write %s", form)
	}
	u, err := url.Parse(text)
	if err != nil {
		// Its message quotes the text as a whole, hence only the reason.
		var wrong *url.Error
		if errors.As(err, &wrong) {
			err = wrong.Err
		}
		return Probe{}, fmt.Errorf("%s; write %s", printable(err.Error()), form)
	}
	p.kind = kind
	if p.host, p.port, err = splitAddress(u.Host, form); err != nil {
		return Probe{}, err
	}
	// It is never sent.
	u.Fragment, u.RawFragment = "", ""
	p.url = u
	return p, nil
}

// splitAddress takes HOST:PORT apart; form is what to write instead.
func splitAddress(address, form string) (host string, port uint16, err error) {
	host, number, err := net.SplitHostPort(address)
	switch {
	case err != nil && strings.Count(address, ":") > 1 && !strings.HasPrefix(address, "["):
		return "", 0, fmt.Errorf("an IPv6 address needs brackets, as in [::1]:80: write %s", form)
	case address == "":
		return "", 0, fmt.Errorf("no host: write %s", form)
	case err != nil:
		return "", 0, fmt.Errorf("no port: write %s", form)
	case host == "":
		return "", 0, fmt.Errorf("no host: write %s, with 127.0.0.1 for this machine", form)
	case !validHost(host, address[0] == '['):
		return "", 0, fmt.Errorf("this is no host: write %s", form)
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("a port is a number from 1 to 65535")
	}
	return host, uint16(n), nil
}

// validHost tells whether host can be an address or a name. An IPv6 address stands in brackets, and nothing else does.
func validHost(host string, brackets bool) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Is6() == brackets && validZone(a.Zone())
	}
	return !brackets && len(host) <= maxName && validZone(host)
}

// validZone tells whether each byte may stand in a name of a host or an interface. Some hosts' names have an
// underscore.
func validZone(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
