// Demo runs a service under huptime, puts load on it and restarts it again and again. It fails if one request
// failed, or if a restart did not happen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	clients  = 8
	deadline = 15 * time.Second       // for a start, a restart, and an end
	calm     = 800 * time.Millisecond // of load before each restart and after the last
)

func main() {
	huptime := flag.String("huptime", "bin/huptime", "the huptime to show")
	service := flag.String("service", "bin/demo-service", "the service to run under it, see integration/demo/service")
	restarts := flag.Int("restarts", 5, "how often to restart it")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *huptime, *service, *restarts); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, huptime, service string, restarts int) (err error) {
	service, err = filepath.EvalSymlinks(service) // as /proc/PID/exe will name it
	if err != nil {
		return err
	}
	if service, err = filepath.Abs(service); err != nil {
		return err
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	fmt.Printf("$ huptime demo-service -addr %s\n", addr)
	super, err := start(huptime, service, "-addr", addr)
	if err != nil {
		return err
	}
	load := newLoad()
	defer func() {
		err = errors.Join(err, super.stop())
		killLeftovers(service, load.pids())
		if err != nil {
			fmt.Fprintf(os.Stderr, "--- what huptime and the service wrote:\n%s---\n", super.output.String())
		}
	}()
	if err := super.waitListening(ctx, addr); err != nil {
		return err
	}

	loadCtx, stopLoad := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait() // after stopLoad
	defer stopLoad()
	for i := range clients {
		perConnection := 1
		if i%2 == 1 {
			perConnection = requestsPerConnection
		}
		wg.Go(func() { load.client(loadCtx, fmt.Sprintf("client%d", i), addr, perConnection) })
	}
	pid, err := super.waitNewPID(ctx, load)
	if err != nil {
		return fmt.Errorf("the service did not answer: %w", err)
	}
	fmt.Printf("%d clients; pid %d answers\n", clients, pid)
	for i := range restarts {
		next, err := super.restart(ctx, load)
		if err != nil {
			return fmt.Errorf("restart %d did not happen: %w", i+1, err)
		}
		requests, failures, longest := load.window()
		fmt.Printf("restart %d: pid %d -> %d, %d failed of %d requests so far, longest request %d ms\n",
			i+1, pid, next, failures, requests, longest.Milliseconds())
		pid = next
	}
	if err := super.sleep(ctx, calm); err != nil {
		return err
	}
	// A restart is over when the old process is gone. The load goes on meanwhile, for that is when it could be harmed.
	leftErr := super.waitGone(ctx, service, load.pids(), pid)
	stopLoad()
	wg.Wait()

	requests, failures, _ := load.window()
	fmt.Printf("%d failed of %d requests over %d restarts\n", failures, requests, restarts)
	if failures > 0 {
		return fmt.Errorf("%d requests failed, the first of them:\n%w", failures, errors.Join(load.errors...))
	}
	return leftErr
}

// freeAddress finds a port that nobody listens on. The service needs a fixed one: port 0 would be another each time.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// killLeftovers kills what a failed huptime left behind. The PIDs are old, so each must still be the service.
func killLeftovers(service string, pids []int) {
	for _, pid := range pids {
		if runs(pid, service) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func runs(pid int, exe string) bool {
	link, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	return err == nil && link == exe
}
