package restart

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"huptime/internal/pool"
	"huptime/internal/proc"
	"huptime/internal/remote"
	"huptime/internal/terminal"
	"huptime/notify"
	"huptime/sockets"
)

// Run runs the service until it ends and returns huptime's exit status. The
// error says in one line why huptime itself, or the start of the service, failed; the status is
// then 125, 126 or 127.
//
// It takes the process over: signals, children, the name. Call it once, on
// the main goroutine, which must be locked to its thread for the whole life of
// the process: the kernel ends a generation when the thread that forked it ends.
func Run(cfg Config) (int, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	unsupported := notify.Probe()
	if unsupported != nil && !cfg.BestEffort {
		return ExitFailure, unsupported
	}
	if _, err := proc.ReadComm(unix.Getpid()); err != nil {
		return ExitFailure, fmt.Errorf("cannot read /proc: %w: mount it (mount -t proc proc /proc)", err)
	}
	inherited, err := takeStanding(&cfg)
	if err != nil {
		return ExitFailure, err
	}
	defer cfg.standing.Close()
	// Whatever a generation leaves behind becomes the supervisor's child, also
	// where huptime is not PID 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return ExitFailure, fmt.Errorf("cannot become the subreaper: %w", err)
	}
	// Some sixty signals cost two switches between threads each, while this thread has other things to do.
	opened := make(chan *inbox, 1)
	go func() { opened <- openInbox() }()
	plain, full, err := prepareFilters(&cfg, unsupported)
	in := <-opened
	defer in.close()
	if err != nil {
		return ExitFailure, err
	}
	s := &supervisor{cfg: cfg, plain: plain, full: full, inherited: inherited,
		census: newCensus(), knocks: sockets.NewKnocks(), terminal: terminal.Controlling(), watched: make(map[int]func(Status))}
	defer s.terminal.Restore()
	s.takeName(filepath.Base(cfg.Command[0]))
	return newMachine(cfg, host{launch: s.launch, reap: s.reap, promoted: s.promoted, check: s.check, oomKills: oomCounter()}).run(in)
}

// supervisor is the machine's host of real processes.
type supervisor struct {
	cfg       Config
	plain     notify.Program
	full      notify.Program // asks about rename as well
	inherited []int
	census    *census
	knocks    *sockets.Knocks
	terminal  *terminal.Terminal
	watched   map[int]func(Status) // children that are no leaders, and who is told of their end
}

// prepareFilters chooses the level and builds the filters, or makes the configuration one without; unsupported is why, if that is known already.
func prepareFilters(cfg *Config, unsupported error) (plain, full notify.Program, err error) {
	if unsupported != nil {
		return nil, nil, goPlain(cfg, unsupported)
	}
	if cfg.Level == notify.LevelAuto {
		if cfg.Level, err = chooseLevel(cfg.Log); err != nil && cfg.BestEffort {
			return nil, nil, goPlain(cfg, err)
		} else if err != nil {
			cfg.Log.Warn("restarts will fail; --best-effort stops and starts the service instead", "why", err.Error())
		}
	}
	var options []notify.FilterOption
	if cfg.PassHangup {
		options = append(options, notify.WithSIGHUP)
	}
	if plain, full, err = buildFilters(cfg.Level, options); err != nil || !cfg.BestEffort {
		return plain, full, err
	}
	if err := notify.Try(plain, cfg.Command[0]); err != nil {
		return nil, nil, goPlain(cfg, err)
	}
	return plain, full, nil
}

// buildFilters builds the two filters that generations run under.
//
// Both ask about unlink. Which generation will bind a unix socket with a path can't be known before it starts, its filter can't be
// changed afterwards, and most services remove their socket file when they end: by then it is their successor's, and a file that is gone can't
// be brought back. An unlink that nothing is kept from costs two context switches. Rename is asked about only where a path is
// known that must not be replaced: what an old generation does to its successor's paths is to remove them.
func buildFilters(level notify.Level, options []notify.FilterOption) (plain, full notify.Program, err error) {
	if plain, err = notify.BuildFilter(level, append(slices.Clone(options), notify.WithUnlink)...); err != nil {
		return nil, nil, err
	}
	full, err = notify.BuildFilter(level, append(slices.Clone(options), notify.WithUnlink, notify.WithRename)...)
	return plain, full, err
}

// launch implements host. It runs on the machine's goroutine, as reap does: so no child can be reaped before it
// is known.
func (s *supervisor) launch(number int, from *sockets.Preserved) (process, error) {
	if s.cfg.plain {
		return s.launchPlain(number)
	}
	s.census.settle()
	launch, err := s.prepare(from)
	if err != nil {
		return nil, err
	}
	ready, err := s.throughPool(&launch)
	if err != nil {
		return nil, err
	}
	launcher, err := s.census.begin(number, func() (*notify.Launcher, error) { return notify.Start(launch) })
	if ready.read >= 0 {
		unix.Close(ready.read)
	}
	if err != nil {
		unix.Close(ready.write)
		return nil, err
	}
	if number == 1 {
		// Before the service's code runs: it may read from the terminal at once.
		s.terminal.Give(launcher.PID)
	}
	pidfd, err := unix.PidfdOpen(launcher.PID, 0)
	if err != nil {
		s.cfg.Log.Warn("cannot watch the leader", "generation", number, "error", err.Error())
	}
	p := &live{
		number:   number,
		launcher: launcher,
		pidfd:    pidfd,
		census:   s.census,
		knocks:   s.knocks,
		keep:     s.cfg.Revive.ever() || s.cfg.Copies > 1,
		ready:    ready.write,
		log:      s.cfg.Log,
		shaken:   make(chan struct{}),
		ended:    make(chan struct{}),
	}
	if number > 1 && s.cfg.Mode == Fork {
		p.score, p.exposed = expose(launcher.PID)
	}
	p.tracker = sockets.NewTracker(number, s.cfg.Level, from, func() []int { return s.census.members(number) }, s.knocks, s.cfg.Log)
	p.tracker.KeepFiles(s.cfg.Unlink)
	if s.cfg.PassFDs {
		p.tracker.Pass()
	}
	p.tracker.CloseIdle(s.cfg.IdleTimeout)
	p.tracker.RestDatagrams(s.cfg.DatagramQuiet)
	if s.cfg.Copies > 1 {
		p.tracker.Share(s.cfg.Copies, s.cfg.OwnSockets)
	}
	if s.cfg.Trace {
		p.trace = func(r *notify.Request, reply notify.Reply, took time.Duration) {
			s.cfg.Log.Debug("notified", "generation", number, "call", r.Call.String(), "thread", r.TID,
				"descriptor", r.FD(), "reply", reply.String(), "took", took.String())
		}
	}
	return p, nil
}

// pipe is a pipe's two ends, -1 where there is none.
type pipe struct{ read, write int }

// throughPool makes the launch one of a pool's master, if there are to be several copies. The read end of the pipe is
// inherited, the other is the caller's.
func (s *supervisor) throughPool(l *notify.Launch) (pipe, error) {
	if s.cfg.Copies <= 1 {
		return pipe{-1, -1}, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return pipe{-1, -1}, os.NewSyscallError("pipe2", err)
	}
	// It must not have a number at which something is passed on.
	read, err := unix.FcntlInt(uintptr(p[0]), unix.F_DUPFD_CLOEXEC, 3+len(l.Passed))
	unix.Close(p[0])
	if err != nil {
		unix.Close(p[1])
		return pipe{-1, -1}, os.NewSyscallError("fcntl", err)
	}
	p[0] = read
	l.Inherited = append(slices.Clone(l.Inherited), p[0])
	l.Through = pool.Order{Copies: s.cfg.Copies, Stop: s.cfg.StopSignal, Ready: p[0], Passed: len(l.Passed),
		Always: s.cfg.Revive == ReviveAlways, Fail: s.cfg.Revive == ReviveOnFailure, JSON: s.cfg.JSON}.Args()
	return pipe{p[0], p[1]}, nil
}

// promoted implements host: the supervisor bears the name of the current leader,
// and the terminal is the current generation's.
func (s *supervisor) promoted(leader int) {
	s.terminal.Give(leader)
	// By now a wrapper (sh -c "exec myservice") has become the service.
	if name, err := proc.ReadComm(leader); err == nil && s.cfg.Copies <= 1 {
		s.takeName(name)
	}
	if ready := s.cfg.Ready; ready != nil {
		s.cfg.Ready = nil
		ready()
	}
}

// takeName makes killall and pgrep find the supervisor by the service's name.
func (s *supervisor) takeName(name string) {
	if err := proc.SetComm(name); err != nil {
		s.cfg.Log.Debug("cannot take the service's name", "error", err.Error())
	}
}

// reap implements host. It runs on the machine's goroutine, and tells those who watch a child.
func (s *supervisor) reap() ([]reaped, bool) {
	list, ok := reapChildren()
	for i, child := range list {
		list[i].generation = s.census.was(child.pid)
		if f := s.watched[child.pid]; f != nil {
			f(child.status)
		}
	}
	return list, ok
}

// reapChildren collects every child that has ended. It is the only place that waits
// for children: a second one would steal statuses from it. It declines while a
// process is frozen, because it would steal that one's stops.
func reapChildren() (list []reaped, ok bool) {
	ok = remote.TryReap(func() {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil || pid <= 0:
				return
			}
			list = append(list, reaped{pid: pid, status: Status(status)})
		}
	})
	return list, ok
}

func init() {
	// The main goroutine keeps the main thread: see Run.
	runtime.LockOSThread()
}
