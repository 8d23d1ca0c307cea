package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// SO_REUSEPORT lets several sockets of one user share an address; the kernel chooses one of the group for each connection or datagram. A new
// generation that binds fewer of them than the old one leaves some unclaimed, and what waits in their queues would be
// reset when they are closed. So the group is steered away from them first (SO_ATTACH_REUSEPORT_CBPF in socket(7), Linux 4.5), the
// old generation goes on to serve what waits in them, and then they are closed. net.ipv4.tcp_migrate_req (5.14) would do that for connections;
// it is off by default, belongs to the network namespace, and is not relied on.
//
// A program answers with an index into the group's array (net/core/sock_reuseport.c): sockets are added at its end, by listen(2) or for
// datagrams by bind(2) (reuseport_add_sock); where one is removed the last takes its place (reuseport_detach_sock). A
// generation claims the first ones of the group and those that it leaves are the last, so nothing ever moves among the first.

// errUnsteered says why a group can't be steered.
var errUnsteered = errors.New("cannot steer a SO_REUSEPORT group")

// steering is a program that was attached to a group. It owns the descriptor: of a socket of the group that stays, or see plainMember.
type steering struct{ fd int }

// end lets the kernel choose by itself again: SO_DETACH_REUSEPORT_BPF (Linux 5.3), or else a program whose answer is beyond the array's end, which
// is as good as none (reuseport_select_sock).
func (s steering) end() {
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0) != nil {
		_ = attach(s.fd, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: ^uint32(0)}})
	}
	unix.Close(s.fd)
}

// Shrink steers every group of which the new generation has claimed some sockets away from the others, its surplus, which the old
// generation serves until nothing waits in them (see AwaitDrained). It is called when the new generation is ready.
func (t *Tracker) Shrink(from *Preserved) {
	t.steerGroups(from, func(group []*Socket) (stay, leave []*Socket) {
		for _, s := range group {
			if s.claimed {
				stay = append(stay, s)
			} else {
				leave = append(leave, s)
			}
		}
		return stay, leave
	})
}

// Gather steers every group to its first socket, for a time in which nobody serves: how many of them the next generation will claim is
// not known, and the first is claimed by whoever binds the address at all. The others are surplus. Before that it looks, for two seconds at most, on which
// sockets the generation waits: its successor is not asked to wait on others, and can't be compared with it later.
func (t *Tracker) Gather(from *Preserved) {
	t.watchWaiting(from)
	t.mu.Lock()
	t.alone = true
	t.mu.Unlock()
	t.steerGroups(from, func(group []*Socket) (stay, leave []*Socket) {
		if slices.ContainsFunc(group, func(s *Socket) bool { return s.standing || s.steered }) {
			return group, nil // the supervisor's own wait for whoever comes; and the service's choice is the service's
		}
		return group[:1], group[1:]
	})
}

func (t *Tracker) steerGroups(from *Preserved, choose func(group []*Socket) (stay, leave []*Socket)) {
	from.mu.Lock()
	defer from.mu.Unlock()
	groups := make(map[sockaddr.Key][]*Socket)
	for _, s := range from.sockets {
		if s.fd >= 0 && s.staged == nil && s.Key.Address.Port() != 0 {
			groups[s.Key] = append(groups[s.Key], s)
		}
	}
	for _, group := range groups {
		stay, leave := choose(group)
		if len(stay) == 0 || len(leave) == 0 {
			continue
		}
		if err := from.steer(group, stay, leave); err != nil {
			t.log.Warn("fewer sockets of a SO_REUSEPORT group are used than before; what waits in the others may be reset when they are closed",
				slog.Int("generation", t.generation), slog.String("address", stay[0].String()), slog.String("error", err.Error()))
			continue
		}
		t.log.Debug("group steered away from the sockets that will go", slog.Int("generation", t.generation),
			slog.String("address", stay[0].String()), slog.Int("stay", len(stay)), slog.Int("go", len(leave)))
	}
	t.mu.Lock()
	t.shrinking = from
	t.mu.Unlock()
}

// steer attaches the program and notes the surplus. p.mu is held.
func (p *Preserved) steer(group, stay, leave []*Socket) error {
	if slices.ContainsFunc(group, func(s *Socket) bool { return s.steered }) {
		return fmt.Errorf("%w: the service has attached a program of its own", errUnsteered)
	}
	by, err := steerAwayFrom(group, stay[0], leave)
	if err != nil {
		return err
	}
	p.steerings = append(p.steerings, by)
	for _, s := range leave {
		s.surplus = true
		s.early = handshakes(s.Key)
	}
	return nil
}

// confine keeps a group to the sockets that are in it, while a generation that is not ready adds others: what came to those would be lost if it
// fails. The steering ends when the generation is ready, or has failed.
func (p *Preserved) confine(k sockaddr.Key) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, done := p.confined[k]; done {
		return nil
	}
	var group []*Socket
	for _, s := range p.sockets {
		if s.fd >= 0 && s.answers(k) {
			group = append(group, s)
		}
	}
	if len(group) == 0 || k.Address.Port() == 0 || !sharesPort(group[0].fd) || slices.ContainsFunc(group, func(s *Socket) bool { return s.steered }) {
		return nil
	}
	by, err := steerAwayFrom(group, group[0], nil)
	if err != nil {
		return err
	}
	if p.confined == nil {
		p.confined = make(map[sockaddr.Key]steering)
	}
	p.confined[k] = by
	return nil
}

// endConfinement lets the new generation's sockets have their share.
func (p *Preserved) endConfinement() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.confined {
		s.end()
	}
	p.confined = nil
}

func sharesPort(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	return err == nil && on != 0
}

// steerAwayFrom makes the kernel choose among the sockets that are in the group at this moment, but for those of leave. by is one that stays.
func steerAwayFrom(group []*Socket, by *Socket, leave []*Socket) (steering, error) {
	order, err := joinOrder(group)
	if err != nil {
		return steering{}, err
	}
	var indexes []uint32
	for i, inode := range order {
		if !slices.ContainsFunc(leave, func(s *Socket) bool { return s.Inode == inode }) {
			indexes = append(indexes, uint32(i))
		}
	}
	s, err := steer(by, choice(indexes))
	if err != nil {
		return steering{}, fmt.Errorf("%w: %w", errUnsteered, err)
	}
	return s, nil
}

// steer attaches a program to the group of a socket that stays.
func steer(s *Socket, program []unix.SockFilter) (steering, error) {
	fd, ok := s.copy()
	if !ok {
		return steering{}, os.ErrClosed
	}
	err := attach(fd, program)
	if errors.Is(err, unix.EOPNOTSUPP) {
		unix.Close(fd)
		if fd, err = plainMember(s, func(fd int) error { return attach(fd, program) }); err != nil {
			return steering{}, err
		}
	}
	if err != nil {
		unix.Close(fd)
		return steering{}, err
	}
	return steering{fd}, nil
}

// joinOrder lists the inodes of the group's sockets in the order in which they joined it. sock_diag(7) lists the sockets of an address as they
// are in the kernel's chain, to which each was added at the head, or for IPv6 at the tail (__inet_hash in
// net/ipv4/inet_hashtables.c, udp_lib_get_port in net/ipv4/udp.c). Which of them it was shows by the order in which they were noted, where
// only those change places that were made at the same moment by different threads. Others of the same user may be in the group, and keep their places.
func joinOrder(group []*Socket) ([]uint64, error) {
	diag, err := sockdiag.Open()
	if err != nil {
		return nil, err
	}
	defer diag.Close()
	k := group[0].Key
	protocol, states := uint8(unix.IPPROTO_TCP), uint32(1<<sockdiag.TCPListen)
	if k.IsDatagram() {
		protocol, states = unix.IPPROTO_UDP, 1<<sockdiag.TCPClose
	}
	list, err := diag.InetSockets(uint8(k.Address.Family), protocol, states, k.Address.Port())
	if err != nil {
		return nil, err
	}
	noted := make(map[uint64]int)
	for i, s := range group {
		noted[s.Inode] = i
	}
	var order []uint64
	found := 0
	for _, s := range list {
		_, ours := noted[uint64(s.Inode)]
		if ours {
			found++
		}
		if ours || s.Local.Addr().WithZone("") == k.Address.AddrPort.Addr().WithZone("") {
			order = append(order, uint64(s.Inode))
		}
	}
	if found != len(group) {
		return nil, fmt.Errorf("%w: the kernel shows %d of its %d sockets", errUnsteered, found, len(group))
	}
	agree := 0
	for i := range order {
		for j := range i {
			former, ok := noted[order[j]]
			latter, ok2 := noted[order[i]]
			switch {
			case !ok || !ok2:
			case former < latter:
				agree++
			default:
				agree--
			}
		}
	}
	if agree < 0 || agree == 0 && k.Address.Family == unix.AF_INET {
		slices.Reverse(order)
	}
	return order, nil
}

// choice is a program that answers with one of the indexes, by chance.
func choice(indexes []uint32) []unix.SockFilter {
	const random = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM, include/uapi/linux/filter.h (Linux 3.16)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: random},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(indexes))},
	}
	for i, index := range indexes[1:] {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(i + 1), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: index})
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: indexes[0]})
}

func attach(fd int, program []unix.SockFilter) error {
	return attachProgram(fd, unix.SO_ATTACH_REUSEPORT_CBPF, program)
}
