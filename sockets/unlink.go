package sockets

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/paths"
	"github.com/huptime/huptime/notify"
)

// unlink answers unlinkat(directory, path, flags), and unlink in its form. What would take away a kept path is
// answered with success and not done, if the caller may remove it. Everything else runs as it would without huptime: what can't be looked
// at too, never to fail a call that the service could make by itself.
func (t *Tracker) unlink(r *notify.Request) notify.Reply {
	if r.Int(2)&unix.AT_REMOVEDIR != 0 {
		return notify.Continue()
	}
	if t.namesPlaceholder(r, r.Args[1]) {
		return notify.Return(0)
	}
	kept := t.guarded()
	if len(kept) == 0 {
		return notify.Continue()
	}
	found, path := t.namedLike(r, kept, r.FD(), r.Args[1])
	if found == nil {
		return notify.Continue()
	}
	defer found.Close()
	k := keptAt(kept, found)
	if k == nil {
		return notify.Continue()
	}
	if errno := t.removal(r, r.FD(), path); errno != 0 {
		return notify.Fail(errno)
	}
	k.withhold()
	return t.withheld(r, found)
}

// namesPlaceholder tells whether a gated generation names a placeholder: some services ask a socket for its name when they end, to remove its file, and that of
// what they have by now is gone. They would end with an error (gunicorn does).
func (t *Tracker) namesPlaceholder(r *notify.Request, addr uint64) bool {
	t.mu.Lock()
	gated := t.gate != nil
	t.mu.Unlock()
	if !gated {
		return false
	}
	path, err := r.ReadPath(addr)
	return err == nil && strings.HasPrefix(filepath.Base(path), placeholderName) && r.Valid()
}

// rename answers renameat2(directory, path, new directory, new path, flags), and its
// predecessors in its form. It takes a kept path away where it moves it elsewhere, or something else onto it.
//
// A starting service may bind a socket under another name and rename it to the path, to replace the socket there in one step. If the
// bind was answered with the preserved socket, there is nothing to be renamed, and all is well as it is. If it was not, because
// the name is a new one each time, the rename does what it is meant to.
func (t *Tracker) rename(r *notify.Request) notify.Reply {
	kept := t.guarded()
	if len(kept) == 0 {
		return notify.Continue()
	}
	from, _ := t.namedLike(r, kept, r.Int(0), r.Args[1])
	if from != nil {
		defer from.Close()
		if keptAt(kept, from) != nil {
			if errno := t.renaming(r); errno != 0 {
				return notify.Fail(errno)
			}
			return t.withheld(r, from)
		}
	}
	onto, _ := t.namedLike(r, kept, r.Int(2), r.Args[3])
	if onto == nil {
		return notify.Continue()
	}
	defer onto.Close()
	k := keptAt(kept, onto)
	if k != nil && k.own && from == nil {
		if from = t.anyName(r, r.Int(0), r.Args[1]); from != nil {
			defer from.Close()
		}
	}
	if k != nil && k.own && from != nil && t.plantRenamed(r, k, from) {
		return t.withheld(r, onto)
	}
	if k == nil || k.own && !k.replacedBy(from) {
		return notify.Continue()
	}
	if errno := t.renaming(r); errno != 0 {
		return notify.Fail(errno)
	}
	return t.withheld(r, onto)
}

// replacedBy tells whether what is renamed is the preserved socket, as the service sees it: nothing at the place where it
// was bound.
func (k *guardedPath) replacedBy(from *paths.Found) bool {
	if from == nil || from.Place != k.bound {
		return false
	}
	_, err := from.Stat()
	return errors.Is(err, os.ErrNotExist)
}

// withheld is the answer to a call that is not done.
func (t *Tracker) withheld(r *notify.Request, found *paths.Found) notify.Reply {
	if !r.Valid() {
		return notify.Continue()
	}
	t.log.Debug("path kept from removal", slog.Int("generation", t.generation), slog.String("call", r.Call.String()),
		slog.Int("thread", r.TID), slog.String("name", found.Name))
	return notify.Return(0)
}

// namedLike finds the place of the caller's path if one of the kept ones has its name; else it returns nil. The caller closes
// it. So every other unlink costs a look at the caller's memory and no more.
func (t *Tracker) namedLike(r *notify.Request, kept []guardedPath, dirfd int, addr uint64) (found *paths.Found, path string) {
	path, err := r.ReadPath(addr)
	if err != nil {
		t.cannotLook(r, err)
		return nil, ""
	}
	_, name, err := paths.Split(path)
	if err != nil || !slices.ContainsFunc(kept, func(k guardedPath) bool { return k.name == name || k.bound.Name == name }) {
		return nil, ""
	}
	if found, err = paths.OfThread(r.TID, dirfd, path); err != nil {
		t.cannotLook(r, err)
		return nil, ""
	}
	return found, path
}

// anyName finds the place of a path of the caller's; nil where that can't be told. The caller closes it.
func (t *Tracker) anyName(r *notify.Request, dirfd int, addr uint64) *paths.Found {
	path, err := r.ReadPath(addr)
	if err != nil {
		return nil
	}
	found, err := paths.OfThread(r.TID, dirfd, path)
	if err != nil {
		return nil
	}
	return found
}

// keptAt returns which of the kept paths a place is, or nil.
func keptAt(kept []guardedPath, found *paths.Found) *guardedPath {
	for i := range kept {
		if kept[i].at(found) {
			return &kept[i]
		}
	}
	return nil
}

// cannotLook warns once of processes that may not be looked into: what they remove is removed. Whatever else is wrong with
// a path is for the kernel to say to the caller.
func (t *Tracker) cannotLook(r *notify.Request, err error) {
	if errors.Is(err, os.ErrPermission) && !errors.Is(err, notify.ErrTargetGone) {
		t.opaquePaths.Do(func() {
			t.log.Warn("a process may not be looked into: it can remove paths that its successor uses; give huptime CAP_SYS_PTRACE",
				slog.Int("generation", t.generation), slog.Int("thread", r.TID), slog.String("error", err.Error()))
		})
	}
}
