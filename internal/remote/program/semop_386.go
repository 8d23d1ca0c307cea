package main

import "golang.org/x/sys/unix"

// i386 has no semop of its own: this one without a time limit is the same (Linux 5.1).
const semopNumber = unix.SYS_SEMTIMEDOP_TIME64
