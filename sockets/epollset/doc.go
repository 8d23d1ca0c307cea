// Package epollset reads which sockets are in the epoll sets of other processes (proc(5), /proc/PID/fdinfo), and changes
// those entries without the processes' help: through a copy of the set, by a thread with a descriptor table of its own.
//
// It has no state. What it copies it closes; the sockets that an [Edit] is given stay its caller's. Each Edit has one
// goroutine, on a thread that ends with it, and is over when that is.
package epollset
