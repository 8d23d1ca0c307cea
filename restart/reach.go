package restart

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/proc"
)

// Signal implements process. It does not wait for anybody: orphans that have not knocked yet get the signal when they have.
func (p *live) Signal(sig syscall.Signal) error {
	err := p.signalLeader(sig)
	if !errors.Is(err, unix.ESRCH) {
		return err
	}
	// The leader of a daemon ends at once; what it left behind is the service.
	return p.signalAll(sig, p.census.Tops)
}

// SignalAll implements process. The copies of a pool get it from their master.
func (p *live) SignalAll(sig syscall.Signal) error {
	return p.signalAll(sig, func(generation int) []int {
		members := p.census.Members(generation)
		if p.ready < 0 {
			return members
		}
		return slices.DeleteFunc(members, func(pid int) bool {
			st, err := proc.ReadStat(pid)
			return err == nil && st.PPID == p.Leader()
		})
	})
}

// signalAll signals those that list tells of a generation: at once who is there for certain, and a little later who has to be asked first.
// The goroutine ends by the limit of resolve.
func (p *live) signalAll(sig syscall.Signal, list func(generation int) []int) error {
	first := list(p.number)
	err := signalEach(first, sig)
	if len(p.census.Open()) > 0 {
		go func() {
			p.census.Resolve(p.knocks.Generation)
			late := slices.DeleteFunc(list(p.number), func(pid int) bool { return slices.Contains(first, pid) })
			_ = signalEach(late, sig)
		}()
	}
	return err
}

// signalEach returns the last error but that somebody is gone.
func signalEach(pids []int, sig syscall.Signal) (err error) {
	for _, pid := range pids {
		if e := unix.Kill(pid, sig); e != nil && !errors.Is(e, unix.ESRCH) {
			err = e
		}
	}
	return err
}

// signalLeader runs on the goroutine that reaps, so that where there is no pidfd the PID is nobody else's yet.
func (p *live) signalLeader(sig syscall.Signal) error {
	if p.pidfd >= 0 {
		return unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
	}
	select {
	case <-p.reaped:
		return unix.ESRCH
	default:
		return unix.Kill(p.Leader(), sig)
	}
}

// killInterval is how often Kill looks for processes that were forked meanwhile.
const killInterval = 20 * time.Millisecond

// Kill implements process. Its goroutine ends with the generation.
func (p *live) Kill() {
	p.killOnce.Do(func() {
		go func() {
			for {
				p.killOnceAround()
				select {
				case <-p.ended:
					return
				case <-time.After(killInterval):
				}
			}
		}()
	})
}

// killOnceAround kills everybody who is there now. Who has to be asked whose he is keeps none of the others waiting.
func (p *live) killOnceAround() {
	if p.pidfd >= 0 {
		unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
	}
	// At one blow, which a chain of processes that fork and end does not escape: a fork fails while a fatal signal to
	// the group is pending (copy_process in kernel/fork.c).
	for _, group := range p.census.Groups(p.number) {
		unix.Kill(-group, unix.SIGKILL)
	}
	_ = signalEach(p.census.Certain(p.number), unix.SIGKILL)
	p.census.Resolve(p.knocks.Generation)
	_ = signalEach(p.census.Members(p.number), unix.SIGKILL)
}
