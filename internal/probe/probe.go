package probe

import (
	"net"
	"net/url"
	"strconv"
)

// Kind is what is done to find out.
type Kind uint8

const (
	Wait   Kind = iota // the caller looks whether its sockets are waited at
	Notify             // the service says so itself, by sd_notify(3)
	TCP                // connect
	HTTP
	HTTPS
	GRPC // grpc.health.v1
	Exec // a command
)

// String is the word before the colon.
func (k Kind) String() string {
	switch k {
	case Wait:
		return "wait"
	case Notify:
		return "notify"
	case TCP:
		return "tcp"
	case HTTP:
		return "http"
	case HTTPS:
		return "https"
	case GRPC:
		return "grpc"
	case Exec:
		return "exec"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Probe is one question to a service. The zero value is wait. It is a value: it holds nothing open, and may be used by
// many goroutines.
type Probe struct {
	kind    Kind
	host    string // an address without brackets, or a name
	port    uint16
	url     *url.URL // http and https; never changed
	service string   // grpc; empty is the server as a whole
	command string   // exec
}

// Kind says which of the forms it is.
func (p Probe) Kind() Kind { return p.kind }

// Tried tells whether Try can answer it: wait and notify are the caller's.
func (p Probe) Tried() bool { return p.kind != Wait && p.kind != Notify }

// Address is where a probe connects to: a listening socket of the service must be there. The host is an address without
// brackets or a name as it was written. ok is false for probes that don't connect; what a command of exec does is not
// known.
func (p Probe) Address() (host string, port uint16, ok bool) { return p.host, p.port, p.port != 0 }

// Command is the command line of exec, otherwise empty.
func (p Probe) Command() string { return p.command }

// endpoint is the address as a dialer wants it.
func (p Probe) endpoint() string { return net.JoinHostPort(p.host, strconv.Itoa(int(p.port))) }

// String is the probe for people: without a URL's password, in one line, and cut where it is very long.
func (p Probe) String() string {
	switch p.kind {
	case TCP:
		return "tcp://" + p.endpoint()
	case HTTP, HTTPS:
		return printable(p.url.Redacted())
	case GRPC:
		if p.service == "" {
			return "grpc://" + p.endpoint()
		}
		return printable("grpc://" + p.endpoint() + "/" + p.service)
	case Exec:
		return printable("exec:" + p.command)
	}
	return p.kind.String()
}
