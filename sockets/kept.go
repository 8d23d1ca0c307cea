package sockets

import (
	"path/filepath"
	"slices"

	"huptime/internal/paths"
)

// KeepFiles names the files that a service makes and removes by itself and that its successor
// makes anew (pid files): see Yield. Relative ones are relative to the supervisor's working
// directory. Call it before the generation's calls are served.
func (t *Tracker) KeepFiles(files []string) { t.files = files }

// Yield says that a successor starts, which may claim what is in to: from now on what is at
// the kept paths is the successor's, and this generation's attempts to remove or replace it are answered
// with success and not done. nil takes it back: the successor has failed and this generation is the
// current one still.
//
// It has to be said before the successor can make its files, that is before it is launched, and taken
// back only when the last process of the successor is gone. The current generation may end by itself
// while its successor starts, so it can't be said at the promotion.
//
// A starting generation does not yield: it may replace its files by rename, as careful programs do.
func (t *Tracker) Yield(to *Preserved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.successor = to
}

// keptPath is a path that this generation can't take away just now.
type keptPath struct {
	name string
	// file names it for the supervisor, whose directories may be made anew meanwhile. "" for a socket's.
	file string
	// place is where a preserved socket's file is, dev and ino what it is: where another file is there by now, that is not kept.
	place    paths.Place
	dev, ino uint64
	// bound is where the socket was bound, if that is elsewhere.
	bound paths.Place
	// own tells that the path may be needed by this generation itself, which starts and has yet to claim it.
	own bool
}

// kept lists the paths that are kept from this generation just now. It is asked at every unlink, and most often
// there is none.
func (t *Tracker) kept() []keptPath {
	t.mu.Lock()
	successor, starting, gated := t.successor, t.starting, t.gate != nil
	t.mu.Unlock()
	var list []keptPath
	if successor != nil {
		for _, file := range t.files {
			list = append(list, keptPath{name: filepath.Base(file), file: file})
		}
		// What a successor that is ready has not claimed it does not use.
		list = successor.keptPaths(list, false, func(s *Socket) bool { return s.claimed || !gated })
	}
	if t.preserved != nil {
		// While it starts it may fail yet, and the old generation goes on. Afterwards a late bind may come.
		list = t.preserved.keptPaths(list, true, func(s *Socket) bool { return starting || !s.claimed && s.fd >= 0 })
	}
	return list
}

// keptPaths appends the paths of the sockets.
func (p *Preserved) keptPaths(to []keptPath, own bool, which func(*Socket) bool) []keptPath {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if s.file != nil && which(s) {
			to = append(to, keptPath{name: s.file.found.Name, place: s.file.found.Place, dev: s.file.dev, ino: s.file.ino, bound: s.Key.Place, own: own})
		}
	}
	return to
}

// at tells whether a place is this one.
func (k *keptPath) at(found *paths.Found) bool {
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
