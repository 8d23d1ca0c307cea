package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
)

// Connection is a TCP socket as sock_diag(7) shows it.
type Connection struct {
	Local, Remote netip.AddrPort
	// Inode is the number that fstat(2) and /proc/PID/fd show for the socket; 0 where no process has it: it waits in the
	// accept queue (State is TCP_ESTABLISHED or TCP_CLOSE_WAIT), or was closed and the kernel sends what is left.
	Inode uint32
	// State is TCP_ESTABLISHED and so on, include/net/tcp_states.h.
	State uint8
	// Idle is for how long nothing was sent or received; Queued is set while bytes wait to be read, sent or acknowledged. Both
	// are there where the list was asked for with details, and of TCP only.
	Idle   time.Duration
	Queued bool
	// Family is AF_INET or AF_INET6. The addresses of an IPv4 client of a dual-stack socket are IPv4-mapped IPv6.
	Family uint16

	Protocol uint8  // IPPROTO_UDP of a UDP conversation, else 0
	Name     string // of a unix connection: of the listening socket that it was made to
	Peer     uint32 // of a unix connection: the inode of its other end
}

// TCP states, include/net/tcp_states.h.
const (
	TCPEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	TCPCloseWait   = 8
	tcpLastAck     = 9
	tcpClosing     = 11
)

// connectionStates is the mask of the states that an accepted connection can be found in. Not among them: requests
// (SYN_RECV, which a SYN flood makes many of; a connection accepted by TCP Fast Open is one as well until its handshake is
// over), TIME_WAIT, listening sockets, and CLOSE, which is in no table that is dumped: a connection that was reset is not
// listed, though a process may hold it still. TIME_WAIT sockets in substate FIN_WAIT2 are listed as FIN_WAIT2, with inode 0.
const connectionStates = 1<<TCPEstablished | 1<<tcpFinWait1 | 1<<tcpFinWait2 | 1<<TCPCloseWait | 1<<tcpLastAck | 1<<tcpClosing

// The layout of include/uapi/linux/inet_diag.h.
const (
	// tcpDiagGetSock is TCPDIAG_GETSOCK, the request from before SOCK_DIAG_BY_FAMILY. It is the only one that lists both families
	// (inet_diag_dump_compat sets AF_UNSPEC): every dump walks the kernel's whole table of connections, which has
	// a bucket per 128 KiB of memory however few of them are in use, so one walk instead of two halves the cost. ss(8) does the same.
	tcpDiagGetSock = 18

	sizeofRequest    = 60 // struct inet_diag_req
	requestDetailsAt = 3  // .idiag_ext: which attributes are wanted
	requestPortAt    = 4  // .id.idiag_sport, big endian
	requestStatesAt  = 52 // .idiag_states
	requestBytecode  = 1  // INET_DIAG_REQ_BYTECODE, an attribute behind the struct
	sizeofMessage    = 72 // struct inet_diag_msg
	messageSourceAt  = 8
	messageTargetAt  = 24
	messageDeviceAt  = 40
	messageReadAt    = 56 // .idiag_rqueue: bytes that wait to be read
	messageWriteAt   = 60 // .idiag_wqueue: bytes that wait to be sent or acknowledged
	messageInodeAt   = 68
	attributeInfo    = 2  // INET_DIAG_INFO: struct tcp_info, include/uapi/linux/tcp.h
	infoSentAt       = 44 // .tcpi_last_data_sent, milliseconds
	infoReceivedAt   = 52 // .tcpi_last_data_recv
	opJump           = 1  // INET_DIAG_BC_JMP
	opSourceCond     = 7  // INET_DIAG_BC_S_COND
	sizeofOp         = 4  // struct inet_diag_bc_op: code, yes, no (16 bits)
	sizeofCondition  = 8  // struct inet_diag_hostcond without an address
	sizeofPortFilter = sizeofOp + sizeofCondition + sizeofOp

	// maxFilterPorts bounds the filter: it is run for every connection of the machine, and checked in quadratic time.
	maxFilterPorts = 256
)

const (
	// datagramSize is the most that netlink_dump puts into one datagram; it does so once it has seen a buffer of that size.
	datagramSize = 32 << 10
	// maxDumps bounds how often an interrupted dump is repeated.
	maxDumps = 8
	// dumpTimeout is far above what any dump takes, and keeps a fault here from holding up a restart for ever.
	dumpTimeout = 10 * time.Second
)

var errInterrupted = errors.New("connections changed while they were listed")

// Conn lists connections through sock_diag(7). It sees those of the network namespace in which it was made, needs no
// privilege, and may be used by several goroutines.
type Conn struct {
	mu     sync.Mutex
	conn   *netlink.Conn // owned; nil after a failure (until the next call) and after Close
	closed bool
}

// Open opens a netlink socket, which the returned Conn owns and Close closes.
func Open() (*Conn, error) {
	d := &Conn{}
	if err := d.dial(); err != nil {
		return nil, err
	}
	return d, nil
}

// Close closes the netlink socket, after a list under way is finished.
func (d *Conn) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.hangUp()
}

func (d *Conn) dial() error {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: datagramSize})
	if err != nil {
		return fmt.Errorf("cannot open sock_diag: %w", err)
	}
	d.conn = conn
	return nil
}

func (d *Conn) hangUp() error {
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// TCPConnections appends to a slice the TCP connections, of both families, whose local port is among ports.
//
// The kernel keeps its place in the table by counting, so where the list takes more than one datagram (some 200 connections) and
// connections end meanwhile, it can skip one that goes on, and new ones can make it list one twice (net/ipv4/inet_diag.c,
// inet_diag_dump_icsk). Who concludes from an absence should see it twice in a row.
//
// An error leaves the slice as it was.
func (d *Conn) TCPConnections(to []Connection, ports map[uint16]struct{}) ([]Connection, error) {
	return d.tcpConnections(to, ports, false)
}

// DetailedTCPConnections is TCPConnections with Idle and Queued, which costs more.
func (d *Conn) DetailedTCPConnections(to []Connection, ports map[uint16]struct{}) ([]Connection, error) {
	return d.tcpConnections(to, ports, true)
}

func (d *Conn) tcpConnections(to []Connection, ports map[uint16]struct{}, details bool) ([]Connection, error) {
	if len(ports) == 0 {
		return to, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	request := tcpRequest(ports)
	if details {
		request[requestDetailsAt] = 1 << (attributeInfo - 1)
	}
	all := to
	err := untilConsistent(func() error {
		var err error
		all, err = d.dump(to, request, ports)
		return err
	})
	if err != nil {
		return to, fmt.Errorf("cannot list connections: %w", err)
	}
	return all, nil
}

// untilConsistent repeats an interrupted dump. inet_diag of Linux 6.18 never says that it was interrupted; other dumps of
// the kernel do, and so may a later one.
func untilConsistent(dump func() error) error {
	var err error
	for range maxDumps {
		if err = dump(); !errors.Is(err, errInterrupted) {
			return err
		}
	}
	return err
}

// dump makes one request and reads all of its answer.
func (d *Conn) dump(to []Connection, request []byte, ports map[uint16]struct{}) ([]Connection, error) {
	if d.closed {
		return to, os.ErrClosed
	}
	if d.conn == nil {
		if err := d.dial(); err != nil {
			return to, err
		}
	}
	all, err := d.exchange(to, request, ports)
	if err != nil && !errors.Is(err, errInterrupted) {
		// The rest of the answer may be still to come: on a new socket no later request can take it for its own.
		_ = d.hangUp()
	}
	return all, err
}

func (d *Conn) exchange(to []Connection, request []byte, ports map[uint16]struct{}) ([]Connection, error) {
	if err := d.conn.SetDeadline(time.Now().Add(dumpTimeout)); err != nil {
		return to, err
	}
	sent, err := d.conn.Send(netlink.Message{
		Header: netlink.Header{Type: tcpDiagGetSock, Flags: netlink.Request | netlink.Dump},
		Data:   request,
	})
	if err != nil {
		return to, err
	}
	return appendConnections(to, d.conn.ReceiveIter(), sent.Header.Sequence, ports)
}

// appendConnections reads an answer to its end; one connection is decoded at a time and no message outlives its datagram.
func appendConnections(to []Connection, answer iter.Seq2[netlink.Message, error], sequence uint32, ports map[uint16]struct{}) ([]Connection, error) {
	all := to
	interrupted := false
	for m, err := range answer {
		if err != nil {
			return to, err
		}
		if m.Header.Sequence != sequence {
			return to, fmt.Errorf("answer %d to request %d", m.Header.Sequence, sequence)
		}
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			interrupted = true // read on: the socket must be empty for the next request
		}
		if m.Header.Type != tcpDiagGetSock {
			continue
		}
		c, err := parseConnection(m.Data)
		if err != nil {
			return to, err
		}
		// The kernel has filtered by port, unless there were too many of them.
		if _, ok := ports[c.Local.Port()]; ok {
			all = append(all, c)
		}
	}
	if interrupted {
		return to, errInterrupted
	}
	return all, nil
}

// parseConnection parses a struct inet_diag_msg and the attribute that tells for how long a connection is idle.
func parseConnection(b []byte) (Connection, error) {
	if len(b) < sizeofMessage {
		return Connection{}, fmt.Errorf("connection of %d bytes, not %d", len(b), sizeofMessage)
	}
	c := Connection{
		Family: uint16(b[0]),
		State:  b[1],
		Inode:  binary.NativeEndian.Uint32(b[messageInodeAt:]),
	}
	sport := binary.BigEndian.Uint16(b[requestPortAt:])
	dport := binary.BigEndian.Uint16(b[requestPortAt+2:])
	source, target := b[messageSourceAt:messageTargetAt], b[messageTargetAt:messageDeviceAt]
	switch c.Family {
	case unix.AF_INET:
		c.Local = sockaddr.IPv4([4]byte(source[:4]), sport).AddrPort
		c.Remote = sockaddr.IPv4([4]byte(target[:4]), dport).AddrPort
	case unix.AF_INET6:
		device := binary.NativeEndian.Uint32(b[messageDeviceAt:])
		c.Local = sockaddr.IPv6([16]byte(source), sport, device).AddrPort
		c.Remote = sockaddr.IPv6([16]byte(target), dport, device).AddrPort
	default:
		return Connection{}, fmt.Errorf("connection of family %d", c.Family)
	}
	if len(b) > sizeofMessage {
		c.Queued = binary.NativeEndian.Uint32(b[messageReadAt:]) > 0 || binary.NativeEndian.Uint32(b[messageWriteAt:]) > 0
		c.Idle = idleTime(b[sizeofMessage:])
	}
	return c, nil
}

// idleTime reads a struct tcp_info; 0 without one. At the start of a connection both of its times are set to that moment.
func idleTime(attributes []byte) time.Duration {
	list, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return 0
	}
	for list.Next() {
		if info := list.Bytes(); list.Type() == attributeInfo && len(info) >= infoReceivedAt+4 {
			sent, received := binary.NativeEndian.Uint32(info[infoSentAt:]), binary.NativeEndian.Uint32(info[infoReceivedAt:])
			return time.Duration(min(sent, received)) * time.Millisecond
		}
	}
	return 0
}
