package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/huptime/huptime/internal/signals"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/restart"
	"github.com/huptime/huptime/sockets"
)

// options is what the command line says.
type options struct {
	config    restart.Config
	help      bool
	version   bool
	debug     bool
	logFormat string
	seccomp   bool
	fork      bool
	track     string
	exec      bool
	revive    string
	hup       string
	stop      string
	daemon    bool
	listen    []string
	pidFile   string
	ready     readyOptions
}

// maxCopies keeps a slip of the finger (--multi=80000) from taking the machine down.
const maxCopies = 1024

func flags(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("huptime", pflag.ContinueOnError)
	// The first word that is no flag is the command: what follows is the command's own.
	f.SetInterspersed(false)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.SortFlags = false
	f.BoolVar(&o.seccomp, "seccomp", true, "use seccomp user notification: the one backend there is")
	f.BoolVar(&o.fork, "fork", false, "start the new generation while the old one serves (the default mode)")
	f.BoolVar(&o.exec, "exec", false, "start the new generation when the old one has ended: never two at once; clients wait in the queue")
	f.IntVar(&o.config.StartRetries, "start-retries", 10, "how often a failed start is tried again while no generation serves (--exec)")
	f.StringVar(&o.revive, "revive", string(restart.ReviveNever), "start the service again when it ends by itself: always, on-failure or never")
	f.Lookup("revive").NoOptDefVal = string(restart.ReviveAlways)
	f.IntVar(&o.config.Copies, "multi", 1, "run so many copies of the service in each generation; they share its sockets")
	f.BoolVar(&o.config.OwnSockets, "multi-reuseport", false, "with --multi: each copy gets sockets of its own, in SO_REUSEPORT groups")
	f.StringVar(&o.hup, "hup", "restart", "what SIGHUP does: restart, or pass (restart, and the service gets it too)")
	f.IntVar(&o.config.MaxGenerations, "max-generations", 3, "how many generations may live at once; a restart beyond it waits for one to end")
	f.StringArrayVar(&o.listen, "listen", nil, "listen on this `ADDRESS` before the service starts, and give it the socket at its bind: tcp://127.0.0.1:80, tcp://[::1]:80, unix:///run/x, unix://@name; may be repeated")
	f.BoolVar(&o.config.PassFDs, "pass-fds", false, "hand the sockets of --listen and those of LISTEN_FDS to the service as systemd does")
	f.StringVar(&o.track, "track", string(notify.LevelAuto), "what the filter asks about: listeners, connections, calls (connections and close), or auto (one of the first two)")
	f.DurationVar(&o.config.DrainTimeout, "drain-timeout", 10*time.Minute, "how long an old generation may take to finish its connections")
	f.DurationVar(&o.config.IdleTimeout, "idle-timeout", 0, "a drain ends also when all connections that are left have been idle for so long; 0 waits for their clients")
	f.DurationVar(&o.config.DatagramQuiet, "datagram-quiet", sockets.DatagramQuiet, "for how long an old generation must have done nothing before it ends, where it answers datagrams")
	readyFlags(f, o)
	f.StringVar(&o.stop, "stop-signal", "TERM", "the signal that ends an old generation: a name or a number")
	f.BoolVar(&o.config.StopGroup, "stop-group", false, "send it, and TERM and INT, to every process of the generation: for a wrapper that hands nothing on (sh -c, npm, make)")
	f.DurationVar(&o.config.KillAfter, "kill-after", 10*time.Second, "how long after its stop signal an old generation is killed")
	f.BoolVar(&o.config.Wait, "wait", false, "never kill an old generation: it has ended when the last of its processes has, however long that takes")
	f.StringVar(&o.config.EnvFile, "env-file", "", "a `FILE` of lines KEY=VALUE for the service's environment, read anew at each start")
	f.StringVar(&o.config.Dir, "chdir", "", "the service's working `DIR`ectory, resolved anew at each start")
	f.StringVar(&o.config.Check, "check", "", "a shell `COMMAND` line that must succeed before a restart begins")
	f.StringArrayVar(&o.config.Unlink, "unlink", nil, "a `FILE` to remove right before each start of the service; may be repeated")
	f.BoolVar(&o.config.BestEffort, "best-effort", false, "where seccomp user notification is missing, run the service all the same; SIGHUP then stops and starts it")
	f.StringVar(&o.pidFile, "pid-file", "", "write huptime's PID to `FILE` while it runs")
	f.BoolVar(&o.daemon, "daemon", false, "go into the background once the service is ready")
	f.BoolVar(&o.debug, "debug", false, "log every decision")
	f.BoolVar(&o.config.Trace, "trace", false, "log every notified call, the answer and how long it took")
	f.StringVar(&o.logFormat, "log-format", "text", "how to log on standard error: text or json")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	f.BoolVarP(&o.help, "help", "h", false, "print this and exit")
	return f
}

func usage() string {
	var o options
	return `Usage: huptime [flags] [--] COMMAND [ARG...]

Runs COMMAND. On SIGHUP it starts COMMAND anew while the old one serves, hands
it the listening sockets, and ends the old one when its connections are
finished. No client sees an error, and huptime's PID stays the same.

` + flags(&o).FlagUsages() + `
Exit status: the service's; 128+N if signal N ended it; 127 if COMMAND was not
found, 126 if it can't be executed, 125 if huptime itself failed.
`
}

// parse reads the command line. Its errors say what is wrong and what to do.
func parse(args []string) (options, error) {
	var o options
	f := flags(&o)
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("%w (huptime --help lists the flags; put -- before the command if it begins with a dash)", err)
	}
	if o.help || o.version {
		return o, nil
	}
	o.config.Command = f.Args()
	if f.Changed("fork") && !o.fork && !o.exec {
		return o, errors.New("--fork=false: the other mode is --exec; write that, or leave the flag out")
	}
	if o.config.Wait && f.Changed("kill-after") {
		return o, errors.New("--wait and --kill-after exclude each other: leave one out")
	}
	if err := o.check(); err != nil {
		return o, err
	}
	return o, checkTexts(f, o.config.Unlink)
}

// checkTexts refuses flags whose value is a name but empty, as from a variable of a script that is not set.
func checkTexts(f *pflag.FlagSet, unlink []string) error {
	for _, text := range []struct{ flag, write string }{
		{"env-file", "the name of a file of lines KEY=VALUE"},
		{"chdir", "the name of a directory"},
		{"check", "a command line"},
		{"pid-file", "the name of a file"},
	} {
		if flag := f.Lookup(text.flag); flag.Changed && strings.Trim(flag.Value.String(), " \t\n") == "" {
			return fmt.Errorf("--%s is empty: write %s, or leave the flag out", text.flag, text.write)
		}
	}
	if slices.Contains(unlink, "") {
		return errors.New("--unlink is empty: write the name of a file, or leave the flag out")
	}
	return nil
}

func (o *options) check() error {
	if !o.seccomp {
		return errors.New("--seccomp=false: seccomp is the one backend there is; leave the flag out")
	}
	if o.fork && o.exec {
		return errors.New("--fork and --exec exclude each other: leave one out")
	}
	if o.exec {
		o.config.Mode = restart.Exec
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"drain-timeout", o.config.DrainTimeout},
		{"idle-timeout", o.config.IdleTimeout},
		{"datagram-quiet", o.config.DatagramQuiet},
		{"ready-timeout", o.config.ReadyTimeout},
		{"min-ready", o.config.MinReady},
		{"kill-after", o.config.KillAfter},
	} {
		if d.value < 0 {
			return fmt.Errorf("--%s=%s: a duration can't be negative; write for instance 30s", d.flag, d.value)
		}
	}
	if err := o.checkReady(); err != nil {
		return err
	}
	if o.config.StartRetries < 0 {
		return fmt.Errorf("--start-retries=%d: write 0 or more", o.config.StartRetries)
	}
	if o.config.MaxGenerations < 2 {
		return fmt.Errorf("--max-generations=%d: a restart needs room for two; write 2 or more, or use --exec", o.config.MaxGenerations)
	}
	if o.config.Copies < 1 || o.config.Copies > maxCopies {
		return fmt.Errorf("--multi=%d: write a number of copies from 1 to %d", o.config.Copies, maxCopies)
	}
	if o.config.OwnSockets && o.config.Copies == 1 {
		return errors.New("--multi-reuseport is for several copies: add --multi=N, or leave it out")
	}
	if err := o.checkListen(); err != nil {
		return err
	}
	o.config.JSON = o.logFormat == "json"
	switch o.hup {
	case "restart":
	case "pass":
		o.config.PassHangup = true
	default:
		return fmt.Errorf("--hup=%s: use restart or pass", o.hup)
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		return fmt.Errorf("--log-format=%s: use text or json", o.logFormat)
	}
	var err error
	if o.config.Level, err = notify.ParseLevel(o.track); err != nil {
		return fmt.Errorf("--track=%s: %w", o.track, err)
	}
	if o.config.Revive, err = restart.ParseRevive(o.revive); err != nil {
		return fmt.Errorf("--revive=%s: %w", o.revive, err)
	}
	if o.config.StopSignal, err = signals.Parse(o.stop); err != nil {
		return fmt.Errorf("--stop-signal=%s: %w", o.stop, err)
	}
	if len(o.config.Command) == 0 || o.config.Command[0] == "" {
		return errors.New("no command to run; usage: huptime [flags] [--] COMMAND [ARG...]")
	}
	return nil
}

// checkListen reads the addresses of --listen.
func (o *options) checkListen() error {
	for i, text := range o.listen {
		e, err := sockets.ParseEndpoint(text)
		if err != nil {
			return fmt.Errorf("--listen=%s: %w", text, err)
		}
		if slices.Contains(o.listen[:i], text) {
			return fmt.Errorf("--listen=%s is there twice: leave one out", text)
		}
		o.config.Listen = append(o.config.Listen, e)
	}
	return nil
}
