package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// supervisor is the running huptime.
type supervisor struct {
	cmd    *exec.Cmd
	output *bytes.Buffer // of huptime and the service; to be read after stop
	exited chan struct{} // closed once huptime is gone
}

// start starts huptime with the service. The caller must stop it.
func start(huptime string, args ...string) (*supervisor, error) {
	// The signal of Pdeathsig comes when the thread that started the child ends; the main thread lives longest.
	runtime.LockOSThread()
	s := &supervisor{cmd: exec.Command(huptime, args...), output: &bytes.Buffer{}, exited: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.WaitDelay = time.Second // a leftover of the service may hold the pipe open
	// A session of its own: on a terminal, huptime would otherwise give the foreground to the service, and
	// Ctrl-C would reach that instead of the demo.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with huptime
		s.cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// stop ends huptime and thereby the service.
func (s *supervisor) stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		return nil
	case <-time.After(deadline):
		s.cmd.Process.Kill()
		<-s.exited
		return fmt.Errorf("huptime did not end within %v of SIGTERM", deadline)
	}
}

// sleep returns early, with an error, when huptime ends or the demo is interrupted.
func (s *supervisor) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-s.exited:
		return fmt.Errorf("huptime is gone: %v", s.cmd.ProcessState)
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

// until polls done, with a deadline.
func (s *supervisor) until(ctx context.Context, what string, done func() bool) error {
	for end := time.Now().Add(deadline); !done(); {
		if time.Now().After(end) {
			return fmt.Errorf("%s, for %v", what, deadline)
		}
		if err := s.sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) waitListening(ctx context.Context, addr string) error {
	return s.until(ctx, "nobody listens on "+addr, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (s *supervisor) waitNewPID(ctx context.Context, load *load) (int, error) {
	select {
	case pid := <-load.newPID:
		return pid, nil
	case <-time.After(deadline):
		return 0, fmt.Errorf("no new process answered within %v", deadline)
	case <-s.exited:
		return 0, fmt.Errorf("huptime is gone: %v", s.cmd.ProcessState)
	case <-ctx.Done():
		return 0, errors.New("interrupted")
	}
}

// restart sends SIGHUP and waits until a process answers that has not answered before.
func (s *supervisor) restart(ctx context.Context, load *load) (pid int, err error) {
	if err := s.sleep(ctx, calm); err != nil {
		return 0, err
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return 0, err
	}
	return s.waitNewPID(ctx, load)
}

func (s *supervisor) waitGone(ctx context.Context, service string, pids []int, current int) error {
	return s.until(ctx, "an old process of the service is still there", func() bool {
		for _, pid := range pids {
			if pid != current && runs(pid, service) {
				return false
			}
		}
		return true
	})
}
