package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// activated returns socket n of those that whoever started the service has opened for it (sd_listen_fds(3)), or nil where there is none.
func activated(n int) (net.Listener, error) {
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || n >= count {
		return nil, nil
	}
	file := os.NewFile(uintptr(3+n), "passed")
	defer file.Close()
	return net.FileListener(file)
}

// reportActivation says what of socket activation the service sees.
func reportActivation() {
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if value, set := os.LookupEnv(name); set {
			fmt.Fprintf(os.Stderr, "environment %s=%s pid=%d\n", name, value, os.Getpid())
		}
	}
	fmt.Fprintln(os.Stderr, "environment told")
}
