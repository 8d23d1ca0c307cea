package remote

import (
	"runtime"
	"time"
)

// Tracer is an OS thread that freezes processes: for the kernel it, and nobody else of the supervisor, is who traces them.
//
// A thread of theirs is late if it can't be let go when it is time, because it has not stopped: it sleeps uninterruptibly, or is in a
// notified call that was received and is not answered. Let alone it would go on, in the second case with registers that were made up and with
// signals blocked. So the tracer keeps it, and its OS thread with it: whenever the thread stops it is given back what it had, and let go. If
// it never does, it waits where it is, as long as the supervisor lives. Meanwhile its process can't be frozen (ErrSlow).
type Tracer struct {
	late  []*thread
	waits bool // Thaw waits for those that are late
}

// Trace calls use on an OS thread of its own, and returns what it returns. What use freezes it must thaw, all but what is late.
func Trace(use func(tr *Tracer) error) error {
	result := make(chan error, 1)
	go func() { // ends when none is late any more
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tr := &Tracer{}
		func() {
			var err error
			defer func() { result <- err }()
			err = use(tr)
		}()
		tr.untilNoneLate()
	}()
	return <-result
}

// With freezes a process for as long as use runs. Its error is Freeze's, or that of use.
func With(pid int, limit time.Duration, use func(f *Frozen) error) error {
	return Trace(func(tr *Tracer) error {
		f, err := tr.Freeze(pid, limit)
		if err != nil {
			return err
		}
		defer f.Thaw()
		return use(f)
	})
}

// Freeze is Tracer.Freeze for a goroutine that has time: Thaw waits for threads that are late, however long that takes.
func Freeze(pid int, limit time.Duration) (*Frozen, error) {
	return (&Tracer{waits: true}).Freeze(pid, limit)
}

func (tr *Tracer) keep(t *thread) {
	t.late.Store(true)
	tr.late = append(tr.late, t)
}

// untilNoneLate lets go those that are late. It does not wait for their stops, which the reaper may take, but tries: who has not stopped can't be
// written to.
func (tr *Tracer) untilNoneLate() {
	const shortest, longest = time.Millisecond, 100 * time.Millisecond
	for nap := shortest; len(tr.late) > 0; nap = min(2*nap, longest) {
		time.Sleep(nap)
		freezing.RLock()
		var still []*thread
		var taken uint64
		for _, t := range tr.late {
			if t.letGo(&taken) {
				t.disclaim()
			} else {
				still = append(still, t)
			}
		}
		tr.late = still
		freezing.RUnlock()
	}
}
