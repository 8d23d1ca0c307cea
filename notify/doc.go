// Package notify is the kernel edge of seccomp user notification: the filter,
// the launcher that installs it and becomes the service, and the listener on
// which the filtered calls of one generation arrive and are answered.
//
// It knows no addresses and takes no decision: a [Handler] (package sockets)
// is asked what to reply. It starts processes (the launcher) but does not
// watch them: package restart reaps.
//
// # One generation, one filter, one listener
//
//	supervisor                       launcher (huptime, re-executed)
//	Start: fork, exec /proc/self/exe
//	send the filter's program  ───▶  clean slate: dispositions, mask
//	                                 seccomp(2) with NEW_LISTENER
//	Handshake: take the listener ◀── send it (SCM_RIGHTS)
//	                                 execve(2) the service
//	Serve until the hangup
//
// A listener is in one of three states: serving; hung up (every process that
// has the filter is gone: the exact end of a generation); closed. It is closed
// only after the hangup, because calls of a process whose listener is closed
// fail with ENOSYS for ever (seccomp_unotify(2)).
//
// # What is asked about
//
// [LevelListeners] asks about bind and listen; [LevelConnections] about accept and accept4 as
// well. Both ask about rt_sigaction for SIGHUP. Neither asks about close, as [LevelCalls] does: dup2(2), close_range(2), exec and exit close
// without it, so it could be a hint at most, and a signal that came before the supervisor had received the notification (with
// WAIT_KILLABLE_RECV, 5.19; without it, at any time) would make it EINTR with the descriptor still open, which programs do not expect.
//
// A command that is no service can be run under a filter of its own, which asks about connect (BuildConnectFilter). It
// has a listener of its own, too, which is closed when all of the command's processes are gone.
//
// # Kernel versions
//
//	5.0   SECCOMP_RET_USER_NOTIF
//	5.5   SECCOMP_USER_NOTIF_FLAG_CONTINUE
//	5.9   SECCOMP_IOCTL_NOTIF_ADDFD with SETFD: the least that huptime needs
//	5.19  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, used where it is there
//	6.6   SECCOMP_IOCTL_NOTIF_SET_FLAGS with SYNC_WAKE_UP, used where it is there
package notify
