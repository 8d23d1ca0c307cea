// Package remote makes a process that does not cooperate run a system call. It
// knows nothing of sockets or generations.
//
// A process is frozen first: every thread is stopped by ptrace(2), without a
// signal, until no new one is found. Then one of its threads is pointed at a
// system call instruction of the vdso, steps over it, and is put back as it
// was. Last, all are let go.
//
// Nothing of it is visible to the process: registers, signal mask and the
// memory that was used are restored, signals that come meanwhile stay pending,
// and interrupted system calls are restarted: by the kernel where it does so
// after a stop; where it does not (epoll_wait and its like answer EINTR, signal(7)) it is told to by the result of
// the call (ERESTARTNOHAND), and on arm64 the thread is wound back. Only a signal that has a handler, and came during
// the freeze, or on amd64 before the thread was back in its call, interrupts them as it would have. On
// arm64 a thread that enters such a call between the last look at it and its stop
// sees EINTR: the result has overwritten the first argument, and nothing else tells it.
//
// # 32-bit programs
//
// A call is named (package abi), and made in the ABI of the code that the thread runs: on amd64 also i386's, by
// int 0x80, with addresses below 4 GiB and structures of the 32-bit layout. x32 code is 64-bit code as far as this
// package is concerned: it runs 64-bit calls. 32-bit code on arm64 is ErrForeign.
//
// # Programs that restrict themselves
//
// A call is run under the seccomp filters of the thread that makes it. One that the program has installed may kill for it, so only threads
// that have none beside huptime's make calls ([ErrSandboxed]).
//
// # States of a thread
//
//	running ──seize, interrupt──▶ stopping ──event stop──▶ frozen ──step──▶ calling
//	   ▲                                                     │ ▲               │
//	   └────────────────────── detach ───────────────────────┘ └───restored────┘
//
// A call that is not answered is given up. A thread that can't leave it then stays in it, late, and its tracer with it
// ([Tracer]): at its stop, however late, it is restored and let go.
//
// If the supervisor ends, wherever, the kernel lets the threads go (ptrace(2), PTRACE_SEIZE); one that is
// inside a call would then run on behind it, which is why calls are short.
//
// # Waiting
//
// A stop of a traced child is reported to every thread of the tracer's process that waits for
// children, and whatever it waits for, if the process is also the parent (wait_consider_task in
// kernel/exit.c): a reaper would take the stop that a freeze waits for. So reaping is done through
// [TryReap], which declines while anything is frozen. This package in turn waits for
// stops only (WSTOPPED), never for an exit, which is the reaper's.
package remote
