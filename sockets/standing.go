package sockets

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/sockets/sockaddr"
	"github.com/huptime/huptime/sockets/sockdiag"
)

// Standing are the sockets that the supervisor holds for its whole life, whatever generation serves them: those that it opens
// itself ([Endpoint]) and those that it was started with (LISTEN_FDS). Each generation finds them among its preserved ones, also the first, and also
// long after its start. One that nobody claims stays open: clients wait.
//
// It owns the descriptors. A nil Standing is an empty one.
type Standing struct {
	sockets []*Socket // those that a bind can be answered with
	files   []int     // all descriptors, of whatever kind, in the order in which they are passed on
	names   []string  // as long as files
	made    []*socketFile
}

// Given is a descriptor that the supervisor was started with to hand it on (sd_listen_fds(3)).
type Given struct {
	FD   int
	Name string
}

// endpointName is what LISTEN_FDNAMES says of sockets that huptime has opened: the names end at a colon, so an address is none.
const endpointName = "huptime"

// OpenStanding opens the endpoints and takes over the given descriptors, those first when they are passed on. sharing sets
// SO_REUSEPORT on what it opens; plants says that nothing is passed on, so that only a bind can get at them. An error says which could not be had; the given descriptors then stay the caller's.
func OpenStanding(given []Given, endpoints []Endpoint, sharing, plants bool, log *slog.Logger) (*Standing, error) {
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	own, err := ownNamespace()
	if err != nil {
		return nil, err
	}
	st := &Standing{}
	for _, g := range given {
		s, err := standingSocket(g.FD, own)
		if err != nil && plants {
			log.Warn("a descriptor that huptime was started with can stand for no bind; only --pass-fds hands it on",
				slog.Int("descriptor", g.FD), slog.String("why", err.Error()))
		}
		if err == nil {
			st.sockets = append(st.sockets, s)
		}
		st.files, st.names = append(st.files, g.FD), append(st.names, g.Name)
	}
	for _, e := range endpoints {
		if err := st.open(e, endpoints, sharing, own); err != nil {
			st.files = st.files[len(given):]
			st.Close()
			return nil, fmt.Errorf("cannot listen on %s: %w", e, err)
		}
	}
	return st, nil
}

func (st *Standing) open(e Endpoint, all []Endpoint, sharing bool, own uint64) error {
	fd, err := e.open(all, sharing)
	if err != nil {
		return err
	}
	s, err := standingSocket(fd, own)
	if err != nil {
		e.removeFile()
		unix.Close(fd)
		return err
	}
	st.sockets = append(st.sockets, s)
	st.files, st.names = append(st.files, fd), append(st.names, endpointName)
	if s.file != nil {
		st.made = append(st.made, s.file)
	}
	return nil
}

// standingSocket describes a socket of the supervisor's own.
func standingSocket(fd int, own uint64) (*Socket, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, errors.New("it is no socket")
	}
	s, err := newSocket(fd, os.Getpid(), stat.Ino, own)
	if err != nil {
		return nil, err
	}
	s.standing = true
	if s.Key.Address.Family != unix.AF_UNIX {
		return s, nil
	}
	diag, err := sockdiag.Open()
	if err != nil {
		return nil, err
	}
	defer diag.Close()
	info, err := diag.UnixSocketOf(s.Inode)
	if err != nil {
		return nil, err
	}
	if info.Name == "" {
		return nil, errors.New("it has no name")
	}
	s.Path = info.Name
	address := sockaddr.Address{Family: unix.AF_UNIX, Name: info.Name}
	s.Key = s.Key.At(address)
	if !address.IsPath() {
		return s, nil
	}
	if !strings.HasPrefix(info.Name, "/") {
		return nil, fmt.Errorf("the directory of %s is not known", s)
	}
	found, err := paths.Own(info.Name)
	if err != nil {
		return nil, err
	}
	s.Key.Place = found.Place
	if s.file, err = fileOf(found, info.File); err != nil {
		found.Close()
		return nil, err
	}
	return s, nil
}

// Join adds the standing sockets to those that a generation may claim, and returns p, or a new one where p is nil and there are any. What p has a
// duplicate of is replaced. expected says that the generation is thought to claim all of them; otherwise it is of those
// that p has, which its predecessor has served.
func (st *Standing) Join(p *Preserved, expected bool) *Preserved {
	if st == nil || len(st.sockets) == 0 {
		return p
	}
	if p == nil {
		p = &Preserved{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range st.sockets {
		joined := &Socket{Key: s.Key, Inode: s.Inode, Path: s.Path, fd: s.fd, file: s.file, standing: true, expected: expected}
		if flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0); err == nil {
			joined.NonBlock = flags&unix.O_NONBLOCK != 0
		}
		i := slices.IndexFunc(p.sockets, func(other *Socket) bool { return other.Inode == s.Inode })
		switch {
		case i < 0:
			p.sockets = append(p.sockets, joined)
		case !p.sockets[i].standing:
			joined.owner = p.sockets[i].owner
			joined.expected, joined.claimed = true, p.sockets[i].claimed
			p.sockets[i].close()
			p.sockets[i] = joined
		}
	}
	return p
}

// Files lists the descriptors that are passed on to a service which knows of socket activation, in their order, and
// their names. They stay the Standing's.
func (st *Standing) Files() (files []int, names []string) {
	if st == nil {
		return nil, nil
	}
	return st.files, st.names
}

// Close closes the sockets and removes the files of those that the supervisor has made.
func (st *Standing) Close() {
	if st == nil {
		return
	}
	for _, file := range st.made {
		if file.there() {
			_ = file.found.Remove()
		}
	}
	for _, s := range st.sockets {
		if s.file != nil {
			s.file.found.Close()
		}
	}
	for _, fd := range st.files {
		unix.Close(fd)
	}
	*st = Standing{}
}
