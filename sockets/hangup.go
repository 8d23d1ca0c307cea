package sockets

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/notify"
)

// hangups knows what the processes of a generation would do on SIGHUP, to which they are deaf: what they asked for
// was noted and not installed. Some programs need SIGHUP inside: a process that wakes its own threads by it (Apache's
// worker does), or raises it. At the first SIGHUP that a process sends to itself its action is installed, by the very
// thread, which is made to run the call for it, and then sends the signal anew. From then on the process is not deaf
// any more, and the log says so.
type hangups struct {
	generation int
	knocks     *Knocks
	log        *slog.Logger

	mu      sync.Mutex
	noted   []notedAction
	heard   map[image]bool     // who need not be helped any more: installed, or given up
	helping map[image]*helping // who is being given its action
	calling map[int]struct{}   // threads that install one by a remote call
	named   bool               // one of them was named in the log
	warned  bool
}

// image is one program in one process: execve changes it.
type image struct {
	pid   int
	start uint64
	auxv  string // differs with each execve, by the random address in it (AT_RANDOM); fork keeps it
}

type notedAction struct {
	of     image
	action action
}

// maxNoted bounds what is remembered, for services that fork without end.
const maxNoted = 256

func newHangups(generation int, knocks *Knocks, log *slog.Logger) *hangups {
	return &hangups{generation: generation, knocks: knocks, log: log,
		heard: make(map[image]bool), helping: make(map[image]*helping), calling: make(map[int]struct{})}
}

func imageOf(pid int) (image, error) {
	st, err := proc.ReadStat(pid)
	if err != nil {
		return image{}, err
	}
	auxv, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/auxv")
	return image{pid, st.StartTime, string(auxv)}, err
}

// imageOfThread is that of a thread's process.
func imageOfThread(tid int) (image, error) {
	pid, err := proc.Tgid(tid)
	if err != nil {
		return image{}, err
	}
	return imageOf(pid)
}

// runs tells whether the process still runs this program.
func (of image) runs() bool {
	now, err := imageOf(of.pid)
	return err == nil && now == of
}

// settle notes that a process need not be helped any more, because it hears, or never will; h.mu is held.
func (h *hangups) settle(of image) {
	if len(h.heard) >= maxNoted {
		maps.DeleteFunc(h.heard, func(other image, _ bool) bool { return !other.runs() })
	}
	h.heard[of] = true
}

// installs tells whether a sigaction is one that help makes, or of a service that is not deaf.
func (h *hangups) installs(r *notify.Request) bool {
	h.mu.Lock()
	_, calling := h.calling[r.TID]
	h.mu.Unlock()
	return calling || h.knocks.hearing.Load() || h.hears(r.TID)
}

// hears tells whether the process of a thread has its action installed: then it sets later ones itself.
func (h *hangups) hears(tid int) bool {
	h.mu.Lock()
	some := len(h.heard) > 0
	h.mu.Unlock()
	if !some {
		return false
	}
	of, err := imageOfThread(tid)
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[of]
}

// note remembers an action that is not installed.
func (h *hangups) note(r *notify.Request, raw []byte) {
	of, err := imageOfThread(r.TID)
	if err != nil || !r.Valid() {
		return
	}
	code := abi.OfAudit(r.Arch)
	if code.Wide() == r.Compat() { // x32: the layout is not that of the calls that it can be made to run
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.noted {
		if h.noted[i].of == of {
			h.noted = append(h.noted[:i], h.noted[i+1:]...)
			break
		}
	}
	if len(h.noted) >= maxNoted {
		h.noted = slices.DeleteFunc(h.noted, func(n notedAction) bool { return !n.of.runs() })
	}
	if len(h.noted) >= maxNoted {
		h.noted = h.noted[1:]
	}
	h.noted = append(h.noted, notedAction{of, action{code, bytes.Clone(raw)}})
}

// wanted is the action of a process: its own, or that of the parent that it was forked by.
func (h *hangups) wanted(of image) (action, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := func(pid int) (action, bool) {
		for _, n := range h.noted {
			if n.of.pid == pid && n.of.auxv == of.auxv && (pid != of.pid || n.of.start == of.start) {
				return n.action, true
			}
		}
		return action{}, false
	}
	pid := of.pid
	for range 64 {
		if a, ok := own(pid); ok {
			return a, true
		}
		st, err := proc.ReadStat(pid)
		if err != nil || st.PPID <= 1 {
			break
		}
		pid = st.PPID
	}
	for i := len(h.noted) - 1; i >= 0; i-- { // its parent has ended
		if h.noted[i].of.auxv == of.auxv {
			return h.noted[i].action, true
		}
	}
	return action{}, false
}

// sent answers a call by which somebody of the generation sends SIGHUP. What is for others runs as it is: they are
// deaf.
func (h *hangups) sent(r *notify.Request) notify.Reply {
	pid, err := proc.Tgid(r.TID)
	if err != nil || !toItself(r, pid) {
		return notify.Continue()
	}
	of, err := imageOf(pid)
	if !r.Valid() {
		return notify.Continue() // it has ended, and its thread's id may be another's by now
	}
	if err != nil {
		h.giveUp(of, err)
		return notify.Continue()
	}
	h.mu.Lock()
	heard, running := h.heard[of], h.helping[of]
	if running != nil {
		running.held[r.TID] = r
		h.mu.Unlock()
		h.letStop(running, r.TID)
		return notify.Later()
	}
	h.mu.Unlock()
	const ignore = 1
	want, ok := h.wanted(of)
	if heard || !ok || want.handler() == ignore {
		return notify.Continue()
	}
	running = &helping{held: map[int]*notify.Request{r.TID: r}}
	h.mu.Lock()
	h.helping[of] = running
	h.mu.Unlock()
	go h.help(of, running, r.TID, want) // ends by the limits of a freeze and of settling
	return notify.Later()
}

// toItself tells whether a signal is for the process that sends it, or one of its threads.
func toItself(r *notify.Request, pid int) bool {
	target := r.Int(0)
	if target == pid {
		return true
	}
	if r.Call == notify.CallThreadHangup || target <= 0 {
		return false
	}
	tgid, err := proc.Tgid(target) // tkill: a thread
	return err == nil && tgid == pid
}

// giveUp leaves a process deaf. Those that start from now on are not: the service needs its SIGHUP.
func (h *hangups) giveUp(of image, why error) {
	h.mu.Lock()
	h.settle(of)
	warned := h.warned
	h.warned = true
	h.mu.Unlock()
	h.knocks.hearing.Store(true)
	if !warned {
		h.log.Warn("a process sends SIGHUP to itself and can't hear it; whoever sets a handler from now on will: "+
			"use --hup=pass to have that from the beginning",
			"generation", h.generation, "pid", of.pid, "error", why.Error())
	}
}
