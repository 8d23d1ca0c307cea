package remote

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/internal/proc"
)

// notRestarted are the calls that answer EINTR after a stop although nothing but the
// stop interrupted them; the kernel does not restart them (signal(7), "Interruption of system calls and library
// functions by stop signals"). Calls on a socket do so where it has a limit, SO_RCVTIMEO or SO_SNDTIMEO (sock_intr_errno
// in include/net/sock.h). None has done anything when it answers EINTR, and connect goes on where it was.
func notRestarted(call abi.Call) bool {
	switch call {
	case abi.EpollWait, abi.Accept, abi.Sendmsg, abi.Recv, abi.Interruptible:
		return true
	}
	return false
}

// pending is what /proc/PID/status says of signals, proc_pid_status(5): bit n-1 is signal n.
type pending struct{ own, shared, blocked, caught uint64 }

func readPending(tid int) (p pending, ok bool) {
	status, err := proc.ReadStatus(tid)
	if err != nil {
		return p, false
	}
	return parsePending(status)
}

// parsePending is not ok where one of them is missing, or is no number.
func parsePending(status []byte) (p pending, ok bool) {
	found := make(map[*uint64]struct{})
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		to := map[string]*uint64{"SigPnd": &p.own, "ShdPnd": &p.shared, "SigBlk": &p.blocked, "SigCgt": &p.caught}[string(key)]
		if to == nil {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		if err != nil {
			return pending{}, false
		}
		*to = n
		found[to] = struct{}{}
	}
	if len(found) != 4 {
		return pending{}, false
	}
	return p, true
}

// takeLimit bounds how long the first thread may take to be given a processor: two seconds were seen on a busy machine.
const takeLimit = 5 * time.Second

// untilTaken waits until the first thread, which was let go, has taken the signals to the whole process that came
// during the freeze: it is the one that the kernel gives them to (complete_signal in kernel/signal.c) where none is
// stopped, and programs count on it, whose other threads have not blocked what the first one waits for.
func untilTaken(pid int) {
	for deadline := time.Now().Add(takeLimit); ; {
		p, ok := readPending(pid)
		if !ok || p.shared&p.caught&^p.blocked == 0 || time.Now().After(deadline) {
			return
		}
		if st, err := proc.ReadStat(pid); err != nil || st.State == 'T' {
			return // it was stopped by a signal, and takes none
		}
		nap := unix.Timespec{Nsec: 50_000}
		unix.Nanosleep(&nap, nil)
	}
}

// interruption tells whether the thread, let go now, would run a handler first: then the program is to see
// EINTR, which is how many notice that their handler has made a note. A signal to the whole process that came during the
// freeze is the first thread's to be let go that has it not blocked; taken are those that were left to others.
func interruption(tid int, taken *uint64) bool {
	p, ok := readPending(tid)
	if !ok {
		return false
	}
	shared := p.shared & p.caught &^ p.blocked &^ *taken
	*taken |= shared
	return shared != 0 || p.own&p.caught&^p.blocked != 0
}
