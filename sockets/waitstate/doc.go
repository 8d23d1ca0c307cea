// Package waitstate tells on which descriptors a thread of another process waits at this moment: in accept, in a call
// that takes datagrams, in poll, select or epoll_wait (proc(5), /proc/PID/task/TID/syscall), for all ABIs of
// internal/abi.
//
// It has no state, no goroutines and no descriptors. What it says may be over by the time that it is read.
package waitstate
