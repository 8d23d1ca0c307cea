package main

// #include <signal.h>
// #include <unistd.h>
//
// __attribute__((constructor)) static void ignoreHangup(void) {
// 	if (getpid() == 1) signal(SIGHUP, SIG_IGN);
// }
import "C"

// The constructor runs before the Go runtime does. A terminal or an engine may send SIGHUP to a container at any
// time. The kernel spares PID 1 where it has no handler (pid_namespaces(7)), but the runtime installs one, which ends the process until
// the supervisor catches the signal (signal.Notify); it leaves an ignored SIGHUP alone. Blocking it would not do: the
// runtime unblocks it. Only PID 1 does it, because a launcher or a pool's master, which is this binary too, would hand it on.
