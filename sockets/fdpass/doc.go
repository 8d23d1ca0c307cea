// Package fdpass copies descriptors of other processes into this one: by pidfd_getfd(2), or by making a frozen process
// send them (unix(7), SCM_RIGHTS).
//
// Its caller owns each copy. It has one piece of state: how many copies of what was not wanted are being closed, which
// may take as long as somebody pleases, each by a goroutine of its own.
package fdpass
