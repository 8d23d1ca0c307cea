// Package restart has the generations of a service and their states: it starts
// them, replaces them, ends them, forwards signals and reaps. It makes no
// decision about a socket (package sockets) and no ioctl (package notify).
//
// # One owner
//
// One goroutine, machine.run, owns all state. Whatever takes long (a launcher's
// handshake, readiness, the gate, the drain) runs on a goroutine of its own and
// comes back as a function on the machine's channel. Each of them ends with
// its generation: its context is cancelled, or its processes are gone.
//
// # States of a generation
//
//	             ready               the next one is ready       gated
//	starting ──────────▶ serving ──────────────────────▶ gating ───────▶ draining
//	    │                   │                               │                │ no connection left,
//	    │ exited, killed,   │ ended by itself,              │ ended by       │ or drain timeout
//	    │ not ready in time │ or by TERM                    │ itself         ▼
//	    │                   │                               │            stopping (stop signal; later SIGKILL)
//	    ▼                   ▼                               ▼                │
//	   over ◀───────────────────────────────────────────────────────────────┘
//
// A generation is over when the kernel has said that its last process is gone
// (the listener's hangup) and its leader's status is known; both, in any order.
//
// # What happens
//
//	event            first starting       next starting                  serving                   gating, draining        stopping
//	ready            serves               serves; the old one is gated
//	exited           huptime exits so     restart failed, old one serves  huptime exits so; if a    over                    over
//	                                                                      next one starts, that
//	                                                                      one takes over
//	ready timeout    counts as ready      killed: restart failed
//	HUP              one restart, later   one restart, after this one     restart                   restart, at once or     restart
//	                                                                                                after the gate
//	TERM, INT        forwarded            killed                          forwarded                 stop signal
//	second TERM, INT killed               killed                          killed                    killed                  killed
//	other signals    forwarded                                            forwarded
//	gated                                                                                           drains
//	drained, timeout                                                                                stop signal
//	kill-after                                                                                                              killed
//
// In fork mode a restart runs from SIGHUP until the old generation is gated. HUPs that come
// meanwhile are one more restart. An old generation that drains does not hold
// up the next restart, until MaxGenerations are alive.
//
// # Files that one generation leaves to the next
//
// Before a generation is launched the current one hands over (process.HandOver): from then on pid files (Config.Unlink) and the files of
// preserved unix sockets are its successor's, and it can't remove them. That ends when the successor has failed and its last process is gone, or
// when huptime itself is told to end.
//
// # Sockets from outside
//
// What huptime was handed (LISTEN_FDS) and what it opens itself (Config.Listen) it holds from before generation 1 to its own end
// (sockets.Standing). They are joined to what each generation may claim, also the first, and also where nothing else is preserved: a
// start after a sudden end, or in a gap.
//
// # The gap
//
// In exec mode the old generation is retired first, and stays the current one until it is over: then there is a gap, in which
// no generation serves and the supervisor holds the preserved sockets, whose queues are as deep as the system allows. With
// Config.Revive there is one after the service has ended by itself.
//
//	event            old one gating, draining, stopping   between two starts          starting in the gap
//	HUP              nothing: the start is yet to come    start now, count from 0     one restart after this one
//	exited, killed   start                                                            pause, start; given up after StartRetries,
//	                                                                                  or never with Revive
//	ready                                                                             serves; the gap is closed
//	ready timeout                                                                     killed, then as exited
//	TERM, INT        stop signal; then huptime exits so   huptime exits with 128+n    forwarded; then huptime exits so
//	other signals    forwarded                                                        forwarded
//
// Pauses grow from 0.1 s to 5 s, and begin anew after a generation has served for 10 s, and at a SIGHUP.
//
// # Without help
//
// Where there is no user notification and Config.BestEffort permits it, a generation is its processes and nothing more is known of
// it (plain.go). The mode is Exec then, nothing is gated or drained, nobody waits in a queue, and a start has succeeded when the service
// has lived for a second.
//
// # Who is left behind
//
// A leader may end before its generation does: daemons do, and masters whose workers finish their connections. Nobody is
// killed for that. Only after TERM or INT, when huptime itself is to end, those that are left have KillAfter from then on.
// The generation's status is its leader's; or, where that has ended with 0 and others outlive it, that of the last child of the
// supervisor's to end.
//
// # Order of things at the end of a generation
//
// Its goroutines are cancelled; its listener is closed by the goroutine that
// served it, after the hangup and never before; its preserved sockets are closed
// when its predecessor is over; its placeholders last.
package restart
