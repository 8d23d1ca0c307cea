// Package sockets knows which socket stands for which address. It keeps the
// listening sockets of one generation for the next, answers the notified
// calls of a generation, and makes an old one stop accepting.
//
// It starts no process and has no plan: package restart decides when a socket
// is collected, a generation gated, and what follows. How calls arrive is
// package notify's.
//
// # The life of a preserved socket
//
//	listen seen ──▶ collected ──▶ claimed ──▶ released
//	(Tracker)       (Collect)     (bind)      (the old generation is gated)
//	                    │
//	                    └───────▶ unclaimed ──▶ closed (the old generation is gone)
//
// Outside a restart the supervisor holds no duplicate: when the service closes
// its socket, or ends, the port is closed, as without huptime.
//
// Standing sockets ([Standing]) are the exception: the supervisor holds them from before the first generation to its own end. Each
// generation finds them among its preserved ones, claims them late as well as early, and what it closes of them stays open.
//
// # What follows a plant
//
// A planted socket is another open file than the caller's own. What else the process has of its own, duplicates and entries
// in epoll sets, is moved to the planted one while the caller waits in its bind (aliases). An address that overlaps a preserved one, and
// so can't be bound, is remembered as the reason should the generation fail (Obstacle).
//
// # What each notified call is asked for
//
//	bind          a preserved socket is planted for a preserved address
//	listen        which sockets are listening sockets; of datagram sockets, bind
//	setsockopt    whether the service steers a SO_REUSEPORT group itself
//	accept        readiness; in a gated generation the placeholder is planted here
//	rt_sigaction  what SIGHUP is to do: it is noted, not done
//	kill          with SIGHUP, by a process to itself: it is done from then on (hangups); tkill, tgkill and sigqueue
//	              likewise
//	unlink        a kept path is not removed, and the caller told that it was
//	rename        likewise, where a kept path would be moved away or replaced
//	connect       a starting generation finds nobody at what it has yet to claim
//	close         nothing; that it is time to look
//
// A bind is the moment to plant, with two exceptions: where the old generation dials from the address (dials) it is the listen, and where a
// unix socket is bound under a name of its own it is the rename onto the path (plantRenamed).
//
// # Kept paths
//
// Two kinds of files belong to one generation after the other, and each generation means to remove its own: pid files, and the files
// of unix sockets. What is kept from whom, and when:
//
//	                    a generation that            the current one   a generation whose successor
//	                    starts                                         has begun to start (HandOver)
//	files by name       may remove and replace it    may               may not
//	files of sockets    may not: the old one may     may               may not, but for sockets that a
//	that it may claim   serve on                                       successor that is ready left unclaimed
//
// It is one from before the successor is launched, not from its promotion on: the old one may end by itself while the
// new one writes its pid file. It is taken back when the successor has failed, and when huptime ends. An unlink of a socket's
// file that was answered so, and that no successor claims in the end, is made up for (Preserved.Close).
//
// A path is compared by the identity of its directory, as the calling thread sees it, and its name (package paths). What
// can't be looked at runs: processes that may not be looked into, and io_uring's unlinkat and renameat, can take a path away.
//
// # Unix sockets
//
// A socket has one file in its life, and a file that was unlinked can't be linked again: hence the above. Where a program
// binds another name and renames it into place, the preserved socket is planted at the other name, and the
// rename is answered without being done. Should the file be gone nevertheless, the bind runs: a preserved socket that
// no client can find would be worse. What clients see as SO_PEERCRED is what the kernel noted when the first generation listened.
//
// # Why close is not notified, but at the level calls
//
// It says little: that in a gated generation a connection may have ended, before the call has run. The drain finds
// that by looking, at the latest 200 ms later. That a listening socket was given up is seen when sockets are collected, by who
// holds it then. A notified close costs as much as an accept, once for every connection, and a signal at the wrong moment makes it EINTR. At the
// level calls it is the reason to look at once (Tracker.close).
//
// # Datagrams
//
// A datagram socket that is bound is a listening one; one that has a peer is a conversation of its generation's, and counts as a connection.
// There is no accept between the queue and the program, and none of the calls that take a datagram is notified. They are gated by remote
// calls at either level, with care for the answers that a program has in hand: see sealDatagrams. What a generation has in hand can't be
// seen; before it is stopped it is given a moment in which nothing happens (drain.quiet).
//
// # Groups
//
// Sockets of equal keys (SO_REUSEPORT) are claimed in order. Those that are left over are surplus: the group is steered away from them
// (Shrink), the old generation serves what waits in them, is gated on them one by one, and they are closed before it ends. Where nobody is
// to serve for a time all but the first are surplus (Gather). Sockets that a starting generation adds get nothing until it is ready
// (Preserved.confine). A program of the service's own is never replaced.
//
// # Stage
//
// Tracker.Stage gives each generation sockets of its own, beside its predecessor's, in one SO_REUSEPORT group. The option is set before the bind runs, on the
// duplicate that pidfd_getfd gives, or where that is denied on one that the caller is made to send (bindAnew). TCP sockets that were bound
// without it get it late, while they listen: the group is then made by a socket of the supervisor's own, which drops what it gets (plainMember).
//
//	bind         confined: a program names the old sockets, and for the probe's packets the new ones
//	Switch       the program names the new sockets: the old ones are surplus, and need no gate
//	SwitchBack   as before the switch
//	Close        the old sockets leave the group, and the program ends
//
// A type knows the order of each group's sockets in the kernel (reuseport), which is shared by all generations (Knocks). What can't be staged is
// planted, see PlantedInstead: sockets of another user, datagram sockets that were bound without the option, those that the supervisor holds for its whole life,
// groups with a program of the service's own, unix and vsock sockets. Hosts' groups (multicast) are planted as well: every member would get each datagram.
// Where no generation serves everything is planted, for clients wait in the preserved sockets.
//
// What a probe sends is told by the port that it comes from, which is held for it: DialProbe connects from there, and
// the sockets of a command are bound there while their connect is held (ProbeCommand).
//
// # Gating, level listeners
//
// Each process that holds a socket is frozen (package remote) and made to take
// it out of its epoll sets and to call listen on it; that call is notified, and
// answered by planting a placeholder. Whatever waits then waits on, on the placeholder.
// Before its stop signal the whole generation is frozen once more, so that
// nothing happens between the last look and the signal.
//
// A process with a seccomp filter of its own is made to run no call (remote.ErrSandboxed): its stop signal has to do. Package restart
// launches the next generation at level connections then, if the level is huptime's choice, where no remote call is needed.
//
// # Gating, level connections
//
// Three ways lead a program to accept(2), and each is closed:
//
//   - it waits in accept: a stop and a continue signal make the kernel issue the
//     call anew, and the notification swaps the descriptor for a placeholder.
//   - it waits in epoll: the entry is silenced: it stays, for the program may change or remove it,
//     and asks for nothing, so that it neither wakes in vain nor (EPOLLEXCLUSIVE) swallows a wake-up that the
//     new generation needs.
//   - it waits in poll or select, or comes by later: when it calls accept, the
//     descriptor is swapped for a placeholder, and with it whatever else could tell the
//     process of clients: the socket's other numbers, and entries that it has made since.
//
// A non-blocking accept then gets EAGAIN, and a blocking one a phantom, at either
// level: a connection that its peer has already closed. A program that was told
// "readable", while another generation took the connection, would otherwise hang.
//
// # The way back
//
// A gated generation whose successor fails within its probation accepts again (Ungate). What was silenced gets back what the program had asked
// for, which the entry itself has kept (silenced.go). What was exchanged is exchanged once more, in the other direction: at level listeners by the
// same freeze and knock; at level connections at the next notified accept, for which who waits in accept is made to
// ask again, who waits in poll or select to begin anew, and all who wait to be told are told of a connection to the placeholder. Who then
// is about to wait in a blocking accept gets a phantom. The placeholders are closed when no process has one any more.
//
// A program that is gated may have been told of a client, it alone (EPOLLEXCLUSIVE), which it then does not find. Preserved.Wake sees to
// it that the new generation is told.
package sockets
