package restart

import (
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/signals"
)

// inbox holds the channels on which signals come. Each kind has its own, so
// that a storm of one kind can't crowd out another.
type inbox struct {
	hup     chan os.Signal // capacity 1: HUPs that nobody has looked at yet are one
	child   chan os.Signal // capacity 1: one look reaps all
	end     chan os.Signal // TERM and INT
	forward chan os.Signal
}

// openInbox starts to catch signals. It must run before the first launch, so that none is lost.
func openInbox() *inbox {
	in := &inbox{
		hup:     make(chan os.Signal, 1),
		child:   make(chan os.Signal, 1),
		end:     make(chan os.Signal, 8),
		forward: make(chan os.Signal, 64),
	}
	signal.Notify(in.hup, unix.SIGHUP)
	signal.Notify(in.child, unix.SIGCHLD)
	signal.Notify(in.end, unix.SIGTERM, unix.SIGINT)
	signal.Notify(in.forward, slices.DeleteFunc(signals.Forwarded(), func(s os.Signal) bool {
		return s == unix.SIGTERM || s == unix.SIGINT
	})...)
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE, unix.SIGXFSZ)
	return in
}

func (in *inbox) close() {
	for _, c := range []chan os.Signal{in.hup, in.child, in.end, in.forward} {
		signal.Stop(c)
	}
}
