//go:build !386

package main

import "golang.org/x/sys/unix"

const semopNumber = unix.SYS_SEMOP
