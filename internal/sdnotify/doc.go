// Package sdnotify speaks both sides of sd_notify(3): it hears what a service says of itself ([Listen]), and tells the
// service manager that started huptime what huptime says ([Send]).
//
// It decides nothing: what READY=1 means, and who may say it, are the caller's. It knows nothing of generations beyond
// one function that tells whether a process is of the one that a socket is for.
//
// # The socket
//
// A generation has a datagram socket of its own, so that what is said belongs to it whoever says it. Its name is that
// of a file in a directory that only huptime can write to, in the first of XDG_RUNTIME_DIR (not root's), /run, and
// TMPDIR or /tmp where one can be made. A file, because some clients (puma's, for one) know no other names. Where none
// can be made (a read-only root, an image from scratch) it is an abstract name with 128 random bits (unix(7)).
//
// A service may change its user after its start: the directory can be searched and the socket be written to by anybody.
// That keeps nobody out, and need not: the kernel puts the sender's process id to each datagram (SO_PASSCRED), and what
// comes from a process that is not of the generation is dropped.
//
// A supervisor that is killed leaves its directory behind. The next that makes one beside it removes it.
//
// # From the socket to the caller
//
//	kernel's queue ──▶ reader ──▶ deliverer ──▶ Messages()
//	(10 datagrams)     parses     queue of 16
//
// The reader takes one datagram, asks who sent it, closes the descriptors that came with it, and hands the message on.
// It takes 100 at once and then 100 a second. The deliverer waits for the caller with 16 messages at most; of statuses
// that follow one another it keeps the last. When it is full the reader stops, then the kernel's queue is full
// (net.unix.max_dgram_qlen), then senders wait in sendmsg(2), or have EAGAIN. So whoever floods the socket is slowed
// down, and huptime is not.
//
// Both goroutines are the [Socket]'s, and end at Close. Its order: both are told, the socket is closed, both are waited
// for, barriers that still wait are released, the channel is closed, the file and its directory are removed.
//
// # Barriers
//
// sd_notify_barrier(3) sends BARRIER=1 with the write end of a pipe, and waits until nobody holds that any more: then
// all it said before has been dealt with. Here that is when the caller has taken all earlier messages from the channel,
// which has no buffer for that reason. systemd-notify(1) waits so, that it can be asked who it was.
//
// # What is understood
//
// READY=1, RELOADING=1, STOPPING=1, STATUS=, MAINPID=, ERRNO=, EXTEND_TIMEOUT_USEC= and BARRIER=1. All else is skipped,
// as are values that make no sense. A file descriptor store (FDSTORE=1) there is none: what is passed is closed.
package sdnotify
