package notify

import (
	"testing"

	"golang.org/x/sys/unix"
)

// An answer may come later, from another goroutine; other calls are answered meanwhile.
func TestAnswerLater(t *testing.T) {
	t.Parallel()
	h := &recorder{}
	_, p := launchPuppet(t, h, nil)
	put := make(chan *Request, 1)
	h.take(func(r *Request) Reply {
		if r.Call == CallListen {
			put <- r
			return Later()
		}
		return Fail(unix.EPROTO)
	})
	waiting := p.Begin(t, 1, unix.SYS_LISTEN, watched, 7)
	r := <-put
	if got := p.Call(t, 2, unix.SYS_ACCEPT, watched, 0, 0); got.Errno != unix.EPROTO {
		t.Errorf("another thread's call: %+v", got)
	}
	if !r.Valid() || waiting.Returned() {
		t.Error("the call did not wait")
	}
	r.Answer(Fail(unix.EDOM))
	if got := waiting.Wait(t); got.Errno != unix.EDOM {
		t.Errorf("the call that waited: %+v", got)
	}
	if r.Valid() {
		t.Error("a call that was answered is valid")
	}
	r.Answer(Return(3)) // nobody waits: nothing happens
}

// An answer that comes after the end of its generation finds the listener closed, and touches no descriptor that has its number now.
func TestAnswerAfterTheEnd(t *testing.T) {
	t.Parallel()
	var pair [2]int
	if err := unix.Pipe2(pair[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	l := newListener(pair[0])
	r := &Request{ID: 1, listener: l}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Valid() {
		t.Error("valid without a listener")
	}
	if _, err := r.PlantAnew(pair[1]); err != ErrTargetGone {
		t.Errorf("planted without a listener: %v", err)
	}
	r.Answer(Continue())
}
