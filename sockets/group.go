package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"
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
	from.mu.Lock()
	defer from.mu.Unlock()
	groups := make(map[Key][]*Socket)
	for _, s := range from.sockets {
		if s.fd >= 0 && s.Key.Address.Family != unix.AF_UNIX {
			groups[s.Key] = append(groups[s.Key], s)
		}
	}
	for _, group := range groups {
		var stay, leave []*Socket
		for _, s := range group {
			if s.claimed {
				stay = append(stay, s)
			} else {
				leave = append(leave, s)
			}
		}
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
	order, err := joinOrder(group)
	if err != nil {
		return err
	}
	var indexes []uint32
	for _, s := range stay {
		indexes = append(indexes, uint32(slices.Index(order, s.Inode)))
	}
	by, err := steer(stay[0], choice(indexes))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsteered, err)
	}
	p.steerings = append(p.steerings, by)
	for _, s := range leave {
		s.surplus = true
		s.early = handshakes(s.Key)
	}
	return nil
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
		if fd, err = plainMember(s); err != nil {
			return steering{}, err
		}
		err = attach(fd, program)
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
// only those change places that were made at the same moment by different threads.
func joinOrder(group []*Socket) ([]uint64, error) {
	diag, err := NewDiag()
	if err != nil {
		return nil, err
	}
	defer diag.Close()
	k := group[0].Key
	protocol, states := uint8(unix.IPPROTO_TCP), uint32(1<<tcpListen)
	if k.datagram() {
		protocol, states = unix.IPPROTO_UDP, 1<<tcpClose
	}
	list, err := diag.inetSockets(uint8(k.Address.Family), protocol, states, k.Address.Port())
	if err != nil {
		return nil, err
	}
	noted := make(map[uint64]int)
	for i, s := range group {
		noted[s.Inode] = i
	}
	var order []uint64
	for _, s := range list {
		if _, ok := noted[uint64(s.Inode)]; ok {
			order = append(order, uint64(s.Inode))
		}
	}
	if len(order) != len(group) {
		return nil, fmt.Errorf("%w: the kernel shows %d of its %d sockets", errUnsteered, len(order), len(group))
	}
	agree := 0
	for i := range order {
		for j := range i {
			if noted[order[j]] < noted[order[i]] {
				agree++
			} else {
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
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}
