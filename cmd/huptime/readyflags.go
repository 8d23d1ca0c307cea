package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"huptime/sockets"
)

// readyOptions are the flags about when a new generation is trusted.
type readyOptions struct {
	workers string
}

// maxWorkers keeps a slip of the finger from waiting for ever: no service has so many processes.
const maxWorkers = 1 << 16

func readyFlags(f *pflag.FlagSet, o *options) {
	f.DurationVar(&o.config.ReadyTimeout, "ready-timeout", time.Minute, "how long a new generation may take until it is ready")
	f.DurationVar(&o.config.MinReady, "min-ready", time.Second, "how long a new generation must have served before the old one, which takes over if it fails until then, is retired")
	f.StringVar(&o.ready.workers, "ready-workers", "1", "how many processes of a new generation must wait on each socket, if the old one has as many: a number, or all")
	f.BoolVar(&o.config.AllowAddressChange, "allow-address-change", false, "a new generation need not bind every address that the old one serves")
}

// checkReady reads them.
func (o *options) checkReady() error {
	if o.config.ReadyTimeout == 0 {
		return fmt.Errorf("--ready-timeout=0s: no service is ready at once; write for instance 30s")
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
