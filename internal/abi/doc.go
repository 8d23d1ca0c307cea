// Package abi knows how a system call is called in each ABI that a process can use on the machines that huptime runs
// on: its number, which of its arguments is elsewhere, and how its structures lie in memory.
//
// It is a package of its own because two edges need it that know nothing of each other: package remote makes calls in a
// process, package proc tells which one a thread is in, and what runs there may be of another ABI than huptime: a 32-bit
// program on a 64-bit kernel. The numbers of notified calls are package notify's own: those are a filter's, which is
// about classes of calls (accept and accept4 are one) and ABIs (x32 too) that nobody makes calls in.
package abi
