package sockets

import (
	"log/slog"
	"sort"
	"sync"
	"time"

	"github.com/huptime/huptime/internal/abi"
	"github.com/huptime/huptime/notify"
)

// Tracker answers the notified calls of one generation and knows its listening
// sockets by their inodes. It implements [notify.Handler]; its other methods
// may be called from any goroutine.
type Tracker struct {
	generation int
	level      notify.Level
	knocks     *Knocks
	log        *slog.Logger
	// opaquePaths warns of processes whose paths can't be looked at.
	opaquePaths sync.Once
	// files are paths that are kept for a successor.
	files []string
	// pids lists the generation's processes; it is asked rarely.
	pids func() []int
	// resolve, if there is one, finds out whose the processes are of which pids can't tell; see Resolve.
	resolve func()
	// preserved is what this generation may claim; nil for the first one.
	preserved *Preserved

	// changed gets a value when something happened that readiness depends on.
	changed chan struct{}
	// toKeep gets a value when a socket was listened on.
	toKeep chan struct{}
	// toLook gets a value when a listening socket is about to be closed, ended when a connection of a gated generation is; level calls.
	toLook chan struct{}
	ended  chan struct{}

	// turn is taken by who gates, ungates or stops the generation.
	turn chan struct{}
	// giving is held by who plants what takes another socket's place when a call is notified, and who changes or closes what that is. No remote call
	// is made meanwhile: it is answered by the same listener. It is taken before mu.
	giving sync.Mutex

	hangups *hangups      // what the service's processes do on SIGHUP
	idle    time.Duration // Config.Idle
	rest    time.Duration // Config.Rest
	sharing *sharing      // nil where there is one copy of the service
	asks    Asks          // see Ask

	stage *stage
	inGap bool // it was started where no generation serves: see TakeQueues

	keeping sync.Mutex
	kept    map[uint64]*kept // by inode; see Keep
	taken   bool             // the kept ones were handed over

	mu        sync.Mutex
	listening map[uint64]int       // inode → how many came before it
	bound     map[uint64]boundName // unix and link-local sockets, by inode: what they were bound to; owned
	accepting map[int]acceptCall   // thread id → the accept that it last made
	flags     map[uint64]*Socket   // sockets by inode, of which it may have to wait for O_NONBLOCK
	asking    *asking              // threads that are made to accept anew
	evidence
	starting  bool                  // readiness is still watched
	gate      *gate                 // nil while the generation is not gated
	alone     bool                  // when it is gated nobody else serves: see Gather
	returning map[uint64]*returning // placeholders, by inode, that are being given up again: see Ungate; owned
	successor *Preserved            // what a successor that has begun to start may claim; nil where there is none
	started   time.Time             // when the tracker was made
	listened  time.Time             // when a socket was last listened on
	passed    bool                  // it was started with listening sockets: see Pass
	waited    time.Time             // when a socket was last found to be waited on for the first time
	looked    map[int]int           // process → how many of its descriptors aliases were looked for among
	related   map[int]bool          // processes of which a socket had aliases
	obstacle  string                // why a bind had to fail
	unseen    bool                  // one was listened on by a process that may not be looked into
	listeners map[int]struct{}      // processes that have listened; kept where there are several copies
	noted     int                   // how many listening sockets there ever were
	datagrams map[uint64]struct{}   // those among them that may be datagram sockets
	sweepAt   int                   // so many of these are looked through for closed ones
	inquiries map[uint64]struct{}   // sockets by which it may have asked for something when it was last collected from: see questions
	dials     dials                 // TCP sockets that were bound and may never listen
	steered   map[uint64]struct{}   // sockets by which the service has steered their SO_REUSEPORT group
	closed    bool                  // see gone
	shrinking *Preserved            // of which some groups have surplus sockets; nil until Shrink

	closing []closing // what is about to be closed: see close
	// outstanding are the connections that the drain was last seen to wait for, by inode. It is replaced, never changed.
	outstanding map[uint32]struct{}

	prepared placeholders // for a gate that may come; owned
	holders  []int        // who had listening sockets at the last Collect

	failures     map[failure]struct{} // what was logged already; see cannot
	sweepBoundAt int                  // so many of bound are looked through for closed ones
}

// acceptCall is an accept that was let through. Whether it has returned is not known
// from here.
type acceptCall struct {
	abi abi.ABI
	fd  int32
	// swapped: it runs on what was planted when it was made, and need not be made anew for that.
	swapped bool
}

func newTracker(c *Config) *Tracker {
	return &Tracker{
		generation: c.Generation,
		level:      c.Level,
		knocks:     c.Knocks,
		log:        c.Log,
		hangups:    newHangups(c.Generation, c.Knocks, c.Log),
		pids:       c.Processes,
		resolve:    c.Resolve,
		files:      c.Files,
		asks:       c.Asks,
		idle:       c.Idle,
		preserved:  c.From,
		changed:    make(chan struct{}, 1),
		toKeep:     make(chan struct{}, 1),
		toLook:     make(chan struct{}, 1),
		ended:      make(chan struct{}, 1),
		kept:       make(map[uint64]*kept),
		listeners:  make(map[int]struct{}),
		listening:  make(map[uint64]int),
		steered:    make(map[uint64]struct{}),
		datagrams:  make(map[uint64]struct{}),
		sweepAt:    minSweep,
		bound:      make(map[uint64]boundName),
		accepting:  make(map[int]acceptCall),
		asking:     newAsking(),
		flags:      make(map[uint64]*Socket),
		returning:  make(map[uint64]*returning),
		turn:       make(chan struct{}, 1),
		evidence:   newEvidence(),
		looked:     make(map[int]int),
		related:    make(map[int]bool),
		failures:   make(map[failure]struct{}),
		stage:      newStage(),
		inGap:      c.From != nil && c.From.isAbandoned(),
		starting:   true,
		rest:       c.Rest,
		started:    time.Now(),

		sweepBoundAt: maxBound,
	}
}

// Handle implements [notify.Handler].
func (t *Tracker) Handle(r *notify.Request) notify.Reply {
	switch r.Call {
	case notify.CallAccept:
		return t.accept(r)
	case notify.CallBind:
		return t.bind(r)
	case notify.CallListen:
		return t.listen(r)
	case notify.CallSigaction, notify.CallOldSigaction:
		return t.hangups.sigaction(r)
	case notify.CallHangup, notify.CallThreadHangup:
		return t.hangups.sent(r)
	case notify.CallUnlink:
		return t.unlink(r)
	case notify.CallRename:
		return t.rename(r)
	case notify.CallSteer:
		return t.steer(r)
	case notify.CallConnect:
		return t.connect(r)
	case notify.CallClose:
		return t.close(r)
	}
	return notify.Continue()
}

// ping tells a waiter once, however often it is called before the waiter looks.
func ping(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (t *Tracker) listeningInodes() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	inodes := make([]uint64, 0, len(t.listening))
	for inode := range t.listening {
		inodes = append(inodes, inode)
	}
	sort.Slice(inodes, func(i, j int) bool { return t.listening[inodes[i]] < t.listening[inodes[j]] })
	return inodes
}

func (t *Tracker) forget(inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listening, inode)
	delete(t.datagrams, inode)
	delete(t.steered, inode)
	t.evidence.forget(inode)
	delete(t.stage.mine, inode)
	delete(t.stage.set, inode)
	delete(t.stage.taken, inode)
	delete(t.stage.blocking, inode)
	delete(t.stage.postponed, inode)
	delete(t.stage.decided, inode)
	if b, ok := t.bound[inode]; ok {
		b.close()
		delete(t.bound, inode)
	}
}
