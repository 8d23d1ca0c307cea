// Package pidfile keeps a file with this process's PID, for one live owner at a time.
//
// The owner holds a lock on the file (flock(2)) for as long as it lives; the
// kernel drops it however the owner ends. So the lock tells a live owner from a
// stale file, and not the number in it, which another process or another PID
// namespace may have by now. The file appears with its content and locked:
// it is written under another name and renamed.
//
//	no file                 written
//	file, nobody's lock     stale: replaced
//	file, locked            refused
//	anything but a file     refused; a symbolic link is not followed
//
// flock(2) and renameat2(2) on a local file system are asked for; Linux 3.15.
package pidfile
