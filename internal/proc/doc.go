// Package proc reads from /proc what the supervisor needs to know about a process that it does not control.
//
// It is on the path of every notification: it opens, reads and closes with plain system calls (a /proc file
// never blocks, so the runtime's poller has no part in it), parses bytes in place, and keeps nothing open.
// It knows nothing of seccomp, of generations or of addresses.
//
// Whatever it says was true at the moment of reading. A process id can be another process's a moment later, a
// descriptor another file's: a caller that acts on what it read first makes sure that the process is still the one it meant.
//
// Errors. A process, thread or descriptor that is gone gives an error that matches [os.ErrNotExist], whether the
// kernel said ENOENT (the path is no more) or ESRCH (it went away after open). One that may not be looked into (another
// user's, or not dumpable) gives an error that matches [os.ErrPermission]. Content that makes no sense matches [ErrFormat].
//
// The sources named are the sections of proc(5) and the kernel's own files.
package proc
