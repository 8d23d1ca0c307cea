package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// serveVersion is a service whose next version is good or broken in one way, which the file says: see testdata/versions.py, whose words these are.
func serveVersion(addr, file string) {
	b, _ := os.ReadFile(file)
	behaviour := strings.TrimSpace(string(b))
	if behaviour == "" {
		behaviour = "good"
	}
	crash := func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) } // the runtime makes a status of SIGSEGV
	exit := func(when string) {
		if behaviour == when {
			os.Exit(3)
		}
	}
	exit("exits before bind")
	l, err := net.Listen("tcp", addr) // binds and listens in one
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	exit("exits after bind")
	exit("exits after listen")
	switch behaviour {
	case "exits after 1 s":
		time.AfterFunc(time.Second, func() { os.Exit(3) })
	case "exits after 4 s":
		time.AfterFunc(4*time.Second, func() { os.Exit(3) })
	case "SIGSEGV":
		time.AfterFunc(200*time.Millisecond, crash)
	case "shuts its listener down":
		raw, _ := l.(*net.TCPListener).SyscallConn()
		_ = raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
		os.Exit(3)
	case "warms up 3 s":
		time.Sleep(3 * time.Second)
	case "never accepts":
		time.Sleep(time.Hour)
	case "loads 2 s and fails":
		time.Sleep(2 * time.Second)
		os.Exit(3)
	}
	err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch behaviour {
		case "crashes at its first client":
			crash()
		case "answers after 3 s":
			time.Sleep(3 * time.Second)
		case "answers 500":
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "pid=%d version=%s\n", os.Getpid(), strings.ReplaceAll(behaviour, " ", "-"))
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
