package restart

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/pool"
	"github.com/huptime/huptime/internal/probe"
	"github.com/huptime/huptime/internal/proc"
	"github.com/huptime/huptime/internal/proctree"
	"github.com/huptime/huptime/internal/sdnotify"
	"github.com/huptime/huptime/internal/terminal"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
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
	// Before anything is made of what it says.
	if err := proc.CheckMounted(); err != nil {
		return ExitFailure, err
	}
	unsupported := notify.Probe()
	if unsupported != nil && !cfg.BestEffort {
		return ExitFailure, unsupported
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
	built, err := prepareFilters(&cfg, unsupported)
	in := <-opened
	defer in.close()
	if err != nil {
		return ExitFailure, err
	}
	if !cfg.plain {
		lostPrivileges(&cfg)
	}
	manager := takeManager()
	s := &supervisor{cfg: cfg, manager: manager, filters: built, inherited: inherited,
		census: proctree.New(), knocks: sockets.NewKnocks(), terminal: terminal.Controlling(), watched: make(map[int]func(Status)),
		removals: make(removals), programs: make(map[asked]notify.Program)}
	defer s.removals.close()
	defer s.terminal.Restore()
	if cfg.plain {
		s.census.Unfiltered()
	}
	// A service on a terminal is to keep it: it may ask for a password there, and is stopped by Ctrl-Z.
	self, err := proc.ReadStat(unix.Getpid())
	s.sessions = err == nil && self.Terminal == 0
	s.takeName(filepath.Base(cfg.Command[0]))
	m := newMachine(cfg, host{launch: s.launch, reap: s.reap, promoted: s.promoted, check: s.check, oomKills: oomCounter()})
	s.post = m.post
	s.keepAlive(m)
	return m.run(in)
}

// supervisor is the machine's host of real processes.
type supervisor struct {
	cfg Config
	filters
	programs  map[asked]notify.Program // others, built when they are first needed
	inherited []int
	census    *proctree.Tree
	knocks    *sockets.Knocks
	terminal  *terminal.Terminal
	manager   *manager
	told      bool                 // the service manager was told that the service is ready
	post      func(func())         // hands a function to the machine's goroutine
	sessions  bool                 // each leader gets a session of its own
	watched   map[int]func(Status) // children that are no leaders, and who is told of their end
	removals  removals
}

// filters are those that generations are launched under.
type filters struct {
	plain, full notify.Program // full asks about rename as well
	options     []notify.FilterOption
	auto        bool // the level is huptime's choice
}

// prepareFilters chooses the level and builds the filters, or makes the configuration one without; unsupported is why, if that is known already.
func prepareFilters(cfg *Config, unsupported error) (f filters, err error) {
	if unsupported != nil {
		return f, goPlain(cfg, unsupported)
	}
	if cfg.Level == notify.LevelAuto {
		f.auto = true
		if cfg.Level, err = chooseLevel(cfg.Log); err != nil && cfg.BestEffort {
			return f, goPlain(cfg, err)
		} else if err != nil {
			cfg.Log.Warn("restarts will fail; --best-effort stops and starts the service instead", "why", err.Error())
		}
	}
	f.options = filterOptions(cfg)
	if f.plain, f.full, err = buildFilters(cfg.Level, f.options); err != nil || !cfg.BestEffort {
		return f, err
	}
	if err := notify.Try(f.plain, cfg.Command[0]); err != nil {
		return f, goPlain(cfg, err)
	}
	return f, nil
}

// buildFilters builds the two filters that generations run under.
//
// Both ask about unlink. Which generation will bind a unix socket with a path can't be known before it starts, its filter can't be
// changed afterwards, and most services remove their socket file when they end: by then it is their successor's, and a file that is gone can't
// be brought back. An unlink that nothing is kept from costs two context switches. Rename is asked about only where a path is
// known that must not be replaced: what an old generation does to its successor's paths is to remove them. Other filters are for generations that
// are asked about connect (supervisor.program).
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
	s.census.Settle()
	launch, err := s.prepare(number, from)
	if err != nil {
		return nil, err
	}
	tracker, err := sockets.New(sockets.Config{
		Generation: number, Level: s.cfg.Level, From: from, Knocks: s.knocks, Log: s.cfg.Log,
		Processes: func() []int { return s.census.Members(number) },
		Resolve:   func() { s.census.Resolve(s.knocks.Generation) },
		Asks:      sockets.Asks{AddressChange: s.cfg.AllowAddressChange, Workers: s.cfg.ReadyWorkers},
		Files:     s.cfg.Unlink, Passed: s.cfg.PassFDs,
		Copies: s.cfg.Copies, OwnSockets: s.cfg.OwnSockets,
		Idle: s.cfg.IdleTimeout, Rest: s.cfg.DatagramQuiet,
	})
	if err != nil {
		return nil, err
	}
	notices, err := s.listenFor(number)
	if err != nil {
		return nil, err
	}
	if notices != nil {
		if launch.Env == nil {
			launch.Env = os.Environ()
		}
		// The first of two would be the one that getenv(3) finds: --env-file may have it too.
		launch.Env = slices.DeleteFunc(launch.Env, func(v string) bool { return strings.HasPrefix(v, sdnotify.Variable+"=") })
		launch.Env = append(launch.Env, notices.socket.Env())
	}
	ready, err := s.throughPool(&launch)
	if err != nil {
		notices.close()
		return nil, err
	}
	var launcher *notify.Launcher
	err = s.census.Begin(number, starts(launch, &launcher))
	if ready.read >= 0 {
		unix.Close(ready.read)
	}
	if err != nil {
		unix.Close(ready.write)
		notices.close()
		return nil, err
	}
	if number == 1 {
		// Before the service's code runs: it may read from the terminal at once.
		s.terminal.Give(launcher.PID)
	}
	pidfd, err := unix.PidfdOpen(launcher.PID, 0)
	if err != nil {
		s.cfg.Log.Warn("cannot watch the leader; it is signalled by its PID", "generation", number, "error", err.Error())
		pidfd = -1
	}
	p := &live{
		number:   number,
		launcher: launcher,
		tracker:  tracker,
		pidfd:    pidfd,
		reaped:   make(chan struct{}),
		census:   s.census,
		knocks:   s.knocks,
		keep:     s.cfg.Revive.ever() || s.cfg.Copies > 1,
		closes:   s.cfg.Level == notify.LevelCalls,
		ready:    ready.write,
		notices:  notices,
		holders:  s.reconsider,
		log:      s.cfg.Log,
		shaken:   make(chan struct{}),
		ended:    make(chan struct{}),
	}
	s.watched[launcher.PID] = func(Status) {
		delete(s.watched, launcher.PID)
		close(p.reaped)
	}
	if number > 1 && s.cfg.Mode == Fork {
		p.score, p.exposed = expose(launcher.PID)
	}
	p.prober = &prober{cfg: &s.cfg, options: probe.Options{Statuses: s.cfg.ReadyStatus, Run: p.runProbe(s),
		Env: []string{fmt.Sprintf("HUPTIME_GENERATION=%d", number), fmt.Sprintf("HUPTIME_PID=%d", launcher.PID)}}}
	p.mustNotify = func() bool { return s.waitsForNotice(number) }
	p.prober.options.Dial, p.prober.failed = p.dialProbe, p.letIn
	if p.staged = s.cfg.stages(); p.staged {
		if err := p.tracker.Stage(); err != nil {
			s.cfg.Log.Warn("cannot stage", "generation", number, "error", err.Error())
			p.staged = false
		}
	}
	if notices != nil {
		go notices.take(func() { s.heardReady(number) }) // ends with the socket, which is closed with the generation
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
	if !s.told && s.manager.socket != "" {
		s.told = true
		go s.tell("READY=1")
	}
}

// takeName makes killall and pgrep find the supervisor by the service's name.
func (s *supervisor) takeName(name string) {
	if err := proc.SetComm(name); err != nil {
		s.cfg.Log.Debug("cannot take the service's name", "error", err.Error())
	}
}

func init() {
	// The main goroutine keeps the main thread: see Run.
	runtime.LockOSThread()
}
