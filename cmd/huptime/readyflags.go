package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/huptime/huptime/internal/probe"
	"github.com/huptime/huptime/sockets"
)

// readyOptions are the flags about when a new generation is trusted.
type readyOptions struct {
	workers string
	probes  []string
	status  string
}

// maxWorkers keeps a slip of the finger from waiting for ever: no service has so many processes.
const maxWorkers = 1 << 16

func readyFlags(f *pflag.FlagSet, o *options) {
	f.DurationVar(&o.config.ReadyTimeout, "ready-timeout", time.Minute, "how long a new generation may take until it is ready")
	f.StringArrayVar(&o.ready.probes, "ready", nil, "what a new generation must pass, once it waits for clients, to be ready: wait, notify, tcp://HOST:PORT, http://HOST:PORT/PATH, https://…, grpc://HOST:PORT, exec:COMMAND; may be repeated")
	f.DurationVar(&o.config.ReadyInterval, "ready-interval", 250*time.Millisecond, "how often a probe of --ready is tried, and how long it may take")
	f.BoolVar(&o.config.Stage, "stage", false, "give each generation sockets of its own, which get no clients before it is ready (a probe that connects implies it, and in exec mode notify and exec)")
	f.StringVar(&o.ready.status, "ready-status", "", "which statuses of HTTP pass: for instance 200,204 or 200-399 (the default)")
	f.DurationVar(&o.config.MinReady, "min-ready", time.Second, "how long a new generation must have served before the old one, which takes over if it fails until then, is retired")
	f.StringVar(&o.ready.workers, "ready-workers", "1", "how many processes of a new generation must wait on each socket, if the old one has as many: a number, or all")
	f.BoolVar(&o.config.AllowAddressChange, "allow-address-change", false, "a new generation need not bind every address that the old one serves")
}

// checkReady reads them.
func (o *options) checkReady() error {
	if o.config.ReadyTimeout == 0 {
		return fmt.Errorf("--ready-timeout=0s: no service is ready at once; write for instance 30s")
	}
	if err := o.checkProbes(); err != nil {
		return err
	}
	if o.ready.workers == "all" {
		o.config.ReadyWorkers = sockets.AllWorkers
		return nil
	}
	n, err := strconv.Atoi(o.ready.workers)
	if err != nil || n < 1 || n > maxWorkers {
		return fmt.Errorf("--ready-workers=%s: write a number from 1 to %d, or all", o.ready.workers, maxWorkers)
	}
	o.config.ReadyWorkers = n
	return nil
}

// checkProbes reads --ready and what goes with it.
func (o *options) checkProbes() error {
	if o.config.ReadyInterval <= 0 {
		return fmt.Errorf("--ready-interval=%s: write how long a probe may take, for instance 1s", o.config.ReadyInterval)
	}
	for i, text := range o.ready.probes {
		p, err := probe.Parse(text)
		if err != nil {
			return fmt.Errorf("--ready=%s: %w", text, err)
		}
		if slices.Contains(o.ready.probes[:i], text) {
			return fmt.Errorf("--ready=%s is there twice: leave one out", text)
		}
		if host, _, ok := p.Address(); ok {
			if err := local(host); err != nil {
				return fmt.Errorf("--ready=%s: %w", text, err)
			}
		}
		o.config.Probes = append(o.config.Probes, p)
	}
	if o.ready.status == "" {
		return nil
	}
	var err error
	if o.config.ReadyStatus, err = probe.ParseStatus(o.ready.status); err != nil {
		return fmt.Errorf("--ready-status=%s: %w", o.ready.status, err)
	}
	return nil
}

// local tells whether a host is this machine: no socket of the service's answers at another's address.
func local(host string) error {
	if host == "localhost" {
		return nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return errors.New("write the address of this machine that the service listens on, for instance 127.0.0.1")
	}
	if ip.IsLoopback() {
		return nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil // where that is not permitted, the probe will tell
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(net.IP(ip.WithZone("").AsSlice())) {
			return nil
		}
	}
	return errors.New("no socket of the service can answer it: it is no address of this machine")
}
