package sockets

import (
	"path/filepath"
	"slices"

	"github.com/huptime/huptime/internal/paths"
)

// HandOver says that a successor starts, which may claim what is in to: from now on what is at
// the kept paths is the successor's, and this generation's attempts to remove or replace it are answered
// with success and not done. nil takes it back: the successor has failed and this generation is the
// current one still.
//
// It has to be said before the successor can make its files, that is before it is launched, and taken
// back only when the last process of the successor is gone. The current generation may end by itself
// while its successor starts, so it can't be said at the promotion.
//
// A starting generation does not hand over: it may replace its files by rename, as careful programs do.
func (t *Tracker) HandOver(to *Preserved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.successor = to
	if to == nil {
		t.prepared.close() // nor is it to be gated
	}
}

// guardedPath is a path that this generation can't take away just now.
type guardedPath struct {
	name string
	// file names it for the supervisor, whose directories may be made anew meanwhile. "" for a socket's.
	file string
	// place is where a preserved socket's file is, dev and ino what it is: where another file is there by now, that is not kept.
	place    paths.Place
	dev, ino uint64
	// bound is where the socket was bound, if that is elsewhere.
	bound  paths.Place
	socket *Socket    // whose file it is, or nil
	of     *Preserved // which has the socket
	// own tells that the path may be needed by this generation itself, which starts and has yet to claim it.
	own bool
}

// guarded lists the paths that are kept from this generation just now. It is asked at every unlink, and most often
// there is none.
func (t *Tracker) guarded() []guardedPath {
	t.mu.Lock()
	successor, starting, g := t.successor, t.starting, t.gate
	t.mu.Unlock()
	var list []guardedPath
	if successor != nil {
		for _, file := range t.files {
			list = append(list, guardedPath{name: filepath.Base(file), file: file})
		}
		// What a successor that is ready has not claimed it does not use. One that is yet to come (exec mode) may.
		list = successor.guardedPaths(list, false, func(s *Socket) bool { return s.claimed || g == nil || g.has(s.Inode) })
	}
	if t.preserved != nil {
		// While it starts it may fail yet, and the old generation goes on. Afterwards a late bind may come. The files of standing
		// sockets are nobody's but the supervisor's.
		list = t.preserved.guardedPaths(list, true, func(s *Socket) bool { return starting || s.standing || !s.claimed && s.fd >= 0 })
	}
	return list
}

// guardedPaths appends the paths of the sockets.
func (p *Preserved) guardedPaths(to []guardedPath, own bool, which func(*Socket) bool) []guardedPath {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.file != nil && which(s) {
			to = append(to, guardedPath{name: s.file.found.Name, place: s.file.found.Place, dev: s.file.dev, ino: s.file.ino, bound: s.Key.Place, socket: s, of: p, own: own})
		}
	}
	return to
}

// withhold notes that this generation has asked for the file's removal.
func (k *guardedPath) withhold() {
	if k.socket == nil || k.own {
		return
	}
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	k.socket.withheld = true
}

// at tells whether a place is this one.
func (k *guardedPath) at(found *paths.Found) bool {
	if k.name != found.Name {
		return false
	}
	if k.file == "" {
		st, err := found.Stat()
		return err == nil && k.place == found.Place && uint64(st.Dev) == k.dev && st.Ino == k.ino
	}
	own, err := paths.Own(k.file)
	if err != nil {
		return false
	}
	defer own.Close()
	return own.Place == found.Place
}

// HasPaths tells whether there are unix sockets with paths among the preserved.
func (p *Preserved) HasPaths() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.sockets, func(s *Socket) bool { return s.file != nil })
}

// HasFile tells whether a path of the supervisor's is the file of one of the preserved sockets.
func (p *Preserved) HasFile(path string) bool {
	if !p.HasPaths() {
		return false
	}
	found, err := paths.Own(path)
	if err != nil {
		return false
	}
	defer found.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.sockets, func(s *Socket) bool { return s.fd >= 0 && s.file != nil && s.file.is(found) })
}
