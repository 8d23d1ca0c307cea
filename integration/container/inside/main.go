// Command inside is what the tests of containers run in a root file system that holds nothing else: small
// chores by name. It is static and knows nothing of huptime.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	number := 0
	if len(os.Args) > 2 {
		number, _ = strconv.Atoi(os.Args[2])
	}
	switch os.Args[1] {
	case "hup": // PID 1, as kill -HUP 1 does
		if err := syscall.Kill(1, syscall.SIGHUP); err != nil {
			fail(err)
		}
	case "exit":
		os.Exit(number)
	case "die":
		// The Go runtime has handlers for some, which a default action goes past.
		signal.Reset(syscall.Signal(number))
		syscall.Kill(os.Getpid(), syscall.Signal(number))
		time.Sleep(time.Minute)
	case "hello":
		os.Stdout.WriteString("h")
	case "sleep":
		fmt.Println("sleeps")
		time.Sleep(time.Hour)
	case "stubborn": // to TERM, with children that are as stubborn
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		if number > 0 {
			start("stubborn", strconv.Itoa(number-1))
		}
		fmt.Println("stubborn", number)
		for range c {
			fmt.Println("heard TERM", number)
		}
	case "count": // what PID 1 has come to, with zombies or without; it waits for them to go
		fmt.Printf("zombies %d rss %s\n", zombies(), status("1"))
		time.Sleep(time.Hour)
	case "status":
		fmt.Println(status("1"))
	case "score": // of the out-of-memory killer's, when it is back to what it was
		file := "/proc/" + os.Args[2] + "/oom_score_adj"
		var score []byte
		for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
			if score, _ = os.ReadFile(file); string(score) != "1000\n" {
				break
			}
		}
		os.Stdout.Write(score)
	case "signals":
		signals()
	default:
		fail(fmt.Errorf("no such chore: %v", os.Args))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(99)
}

func start(args ...string) int {
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{"inside"}, args...), &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
	if err != nil {
		fail(err)
	}
	return pid
}

// zombies tells how many processes are left but PID 1 and this one, when that has come to an end.
func zombies() (left int) {
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if left = count(); left == 0 {
			break
		}
	}
	return left
}

// count tells how many there are but PID 1 and this process.
func count() int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	return len(dirs) - 2
}

// status is the resident memory of a process in KiB.
func status(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		fail(err)
	}
	found := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		found[key] = strings.TrimSuffix(strings.TrimSpace(value), " kB")
	}
	return found["VmRSS"]
}

// signals prints what it gets, and whose the terminal is.
func signals() {
	c := make(chan os.Signal, 100)
	signal.Notify(c)
	signal.Reset(syscall.SIGURG) // the runtime's own
	fmt.Println("listens", syscall.Getpgrp() == syscall.Getpid())
	for sig := range c {
		fmt.Printf("signal %d\n", sig)
		if sig == syscall.SIGTERM {
			os.Exit(42)
		}
	}
}
