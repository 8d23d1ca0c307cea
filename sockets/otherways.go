package sockets

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets/epollset"
	"github.com/huptime/huptime/sockets/fdpass"
)

// otherWays are those, beside the number that it accepts from, by which a process could yet be told of new
// clients: other numbers of the same socket, and entries in epoll sets that it has made, or changed, since the gate was
// set. Who is told, and finds nobody at the placeholder, asks again at once: it would spin until the new generation
// has taken the client.
type otherWays struct {
	t       *Tracker
	r       *notify.Request
	d       *placeholder
	pid     int
	source  int // the supervisor's copy of the socket; -1 where there is none
	numbers []proc.Holder
}

// otherWays looks for them; call it while the socket is still there. Level listeners has closed them in one
// freeze, as is done for datagrams at either level. A process that can't be looked into keeps them. The caller must call close.
func (t *Tracker) otherWays(r *notify.Request, d *placeholder) *otherWays {
	o := &otherWays{t: t, r: r, d: d, source: -1}
	if t.level == notify.LevelListeners || d.kind == unix.SOCK_DGRAM {
		return o
	}
	pid, err := proc.Tgid(r.TID)
	if err != nil {
		return o
	}
	// Not by a remote call: those wait for this very goroutine to answer them.
	if o.source, err = fdpass.CopySocket(pid, r.FD()); err != nil {
		o.source = -1
		return o
	}
	o.pid = pid
	holders, _ := proc.Holders([]int{pid}, map[uint64]struct{}{d.stands: {}})
	o.numbers = holders[d.stands]
	return o
}

// shut closes them, after the placeholder was planted at the caller's number.
func (o *otherWays) shut() {
	if o.source < 0 {
		return
	}
	planted := map[int]bool{o.r.FD(): true}
	for _, h := range o.numbers {
		if h.FD == o.r.FD() {
			continue
		}
		info, err := proc.ReadFDInfo(o.pid, h.FD)
		if err == nil {
			err = o.r.Plant(o.d.fd, h.FD, info.CloseOnExec())
		}
		if err != nil {
			o.failed(err)
			continue
		}
		planted[h.FD] = true
		// A thread may be on its way from "readable" at this number into a blocking accept.
		if !o.d.nonblock && !o.t.onlyAccepts(o.d.stands) {
			if err := o.d.phantom(); err != nil {
				o.failed(err)
			}
		}
	}
	entries := epollset.Entries([]int{o.pid}, map[uint64]struct{}{o.d.stands: {}})
	if len(entries) == 0 {
		return
	}
	successors := make(map[epollset.Entry]int)
	for _, e := range entries {
		if planted[e.Target] {
			successors[e] = o.d.fd
		}
	}
	e := epollset.Edit{Entries: entries, Sockets: map[uint64]int{o.d.stands: o.source}, Successors: successors, CopyOf: fdpass.Copy}
	if err := e.Apply(); err != nil {
		o.failed(err)
	}
}

func (o *otherWays) failed(err error) {
	o.t.log.Debug("a gated process may wake up in vain", slog.Int("generation", o.t.generation), slog.Int("pid", o.pid), slog.String("error", err.Error()))
}

func (o *otherWays) close() {
	if o.source >= 0 {
		unix.Close(o.source)
	}
}
