package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/huptime/huptime/internal/probe"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/restart"
	"github.com/huptime/huptime/sockets"
)

// TestParse: each flag arrives where it belongs. A flag that has no line here fails the test.
func TestParse(t *testing.T) {
	t.Parallel()
	untested := make(map[string]bool)
	flags(&options{}).VisitAll(func(f *pflag.Flag) { untested[f.Name] = true })
	for flag, test := range map[string]struct {
		args  []string
		taken func(o options) bool
	}{
		"seccomp":       {[]string{"--seccomp"}, func(o options) bool { return o.seccomp }},
		"fork":          {[]string{"--fork"}, func(o options) bool { return o.fork }},
		"track":         {[]string{"--track=calls"}, func(o options) bool { return o.config.Level == notify.LevelCalls }},
		"drain-timeout": {[]string{"--drain-timeout=0"}, func(o options) bool { return o.config.DrainTimeout == 0 }},
		"ready-timeout": {[]string{"--ready-timeout", "90s"}, func(o options) bool { return o.config.ReadyTimeout == 90*time.Second }},
		"min-ready":     {[]string{"--min-ready=0"}, func(o options) bool { return o.config.MinReady == 0 }},
		"ready": {[]string{"--ready=http://127.0.0.1:80/x", "--ready", "notify"}, func(o options) bool {
			return len(o.config.Probes) == 2 && o.config.Probes[1].Kind() == probe.Notify
		}},
		"stage":                {[]string{"--stage"}, func(o options) bool { return o.config.Stage }},
		"ready-interval":       {[]string{"--ready-interval=1s"}, func(o options) bool { return o.config.ReadyInterval == time.Second }},
		"ready-status":         {[]string{"--ready-status=204"}, func(o options) bool { return o.config.ReadyStatus.Has(204) && !o.config.ReadyStatus.Has(200) }},
		"ready-workers":        {[]string{"--ready-workers=all"}, func(o options) bool { return o.config.ReadyWorkers == sockets.AllWorkers }},
		"allow-address-change": {[]string{"--allow-address-change"}, func(o options) bool { return o.config.AllowAddressChange }},
		"stop-signal":          {[]string{"--stop-signal=quit"}, func(o options) bool { return o.config.StopSignal == syscall.SIGQUIT }},
		"stop-group":           {[]string{"--stop-group"}, func(o options) bool { return o.config.StopGroup }},
		"kill-after":           {[]string{"--kill-after=1ms"}, func(o options) bool { return o.config.KillAfter == time.Millisecond }},
		"idle-timeout":         {[]string{"--idle-timeout=5s"}, func(o options) bool { return o.config.IdleTimeout == 5*time.Second }},
		"datagram-quiet":       {[]string{"--datagram-quiet=5s"}, func(o options) bool { return o.config.DatagramQuiet == 5*time.Second }},
		"exec":                 {[]string{"--exec"}, func(o options) bool { return o.config.Mode == restart.Exec }},
		"start-retries":        {[]string{"--start-retries=0"}, func(o options) bool { return o.config.StartRetries == 0 }},
		"revive":               {[]string{"--revive"}, func(o options) bool { return o.config.Revive == restart.ReviveAlways }},
		"multi":                {[]string{"--multi=4"}, func(o options) bool { return o.config.Copies == 4 }},
		"multi-reuseport":      {[]string{"--multi=2", "--multi-reuseport"}, func(o options) bool { return o.config.OwnSockets }},
		"hup":                  {[]string{"--hup=pass"}, func(o options) bool { return o.config.PassHangup }},
		"max-generations":      {[]string{"--max-generations=2"}, func(o options) bool { return o.config.MaxGenerations == 2 }},
		"wait":                 {[]string{"--wait"}, func(o options) bool { return o.config.Wait }},
		"env-file":             {[]string{"--env-file", "a b"}, func(o options) bool { return o.config.EnvFile == "a b" }},
		"chdir":                {[]string{"--chdir=/x"}, func(o options) bool { return o.config.Dir == "/x" }},
		"check":                {[]string{"--check", "nginx -t"}, func(o options) bool { return o.config.Check == "nginx -t" }},
		"unlink":               {[]string{"--unlink=a,b", "--unlink=c"}, func(o options) bool { return slices.Equal(o.config.Unlink, []string{"a,b", "c"}) }},
		"best-effort":          {[]string{"--best-effort"}, func(o options) bool { return o.config.BestEffort }},
		"pid-file":             {[]string{"--pid-file=p"}, func(o options) bool { return o.pidFile == "p" }},
		"daemon":               {[]string{"--daemon"}, func(o options) bool { return o.daemon }},
		"debug":                {[]string{"--debug"}, func(o options) bool { return o.debug }},
		"trace":                {[]string{"--trace"}, func(o options) bool { return o.config.Trace }},
		"log-format":           {[]string{"--log-format=json"}, func(o options) bool { return o.logFormat == "json" }},
		"listen": {[]string{"--listen=tcp://127.0.0.1:80", "--listen", "unix:///x"}, func(o options) bool {
			return len(o.config.Listen) == 2 && o.config.Listen[1].String() == "unix:///x"
		}},
		"pass-fds": {[]string{"--pass-fds"}, func(o options) bool { return o.config.PassFDs }},
		"version":  {[]string{"--version"}, func(o options) bool { return o.version }},
		"help":     {[]string{"-h"}, func(o options) bool { return o.help }},
	} {
		o, err := parse(append(slices.Clone(test.args), "service", "--debug", "-x"))
		if err != nil || !test.taken(o) {
			t.Errorf("%q: %+v, %v", test.args, o, err)
		}
		if !o.help && !o.version && !slices.Equal(o.config.Command, []string{"service", "--debug", "-x"}) {
			t.Errorf("%q: the command is %q", test.args, o.config.Command)
		}
		if !untested[flag] {
			t.Errorf("there is no flag --%s", flag)
		}
		delete(untested, flag)
	}
	for flag := range untested {
		t.Errorf("--%s is not tested here", flag)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"--", "-service"})
	if err != nil || !slices.Equal(o.config.Command, []string{"-service"}) {
		t.Fatalf("%+v, %v", o, err)
	}
	c := o.config
	if c.Level != notify.LevelAuto || c.DrainTimeout != 10*time.Minute || c.ReadyTimeout != time.Minute || c.KillAfter != 10*time.Second ||
		c.StopSignal != syscall.SIGTERM || c.MaxGenerations != 3 || c.Mode != restart.Fork || c.StartRetries != 10 ||
		c.Revive != restart.ReviveNever || c.Copies != 1 || c.OwnSockets || c.StopGroup || c.PassHangup || c.Wait || c.EnvFile != "" || c.Dir != "" || c.Check != "" || c.Unlink != nil ||
		c.Trace || o.debug || o.daemon || o.pidFile != "" || o.logFormat != "text" {
		t.Errorf("%+v", o)
	}
}

// TestBadValues: one line, with the flag as it was written and what to write instead.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		says []string
	}{
		{nil, []string{"no command", "usage: huptime"}},
		{[]string{""}, []string{"no command"}},
		{[]string{"--nothing", "x"}, []string{"--nothing", "--help"}},
		{[]string{"-x"}, []string{"-x", "put -- before the command"}},
		{[]string{"--chdir"}, []string{"--chdir", "needs an argument"}},
		{[]string{"--seccomp=no", "x"}, []string{"--seccomp", "--help"}},
		{[]string{"--seccomp=false", "x"}, []string{"--seccomp", "leave the flag out"}},
		{[]string{"--idle-timeout=-5s", "x"}, []string{"--idle-timeout", "30s"}},
		{[]string{"--fork=false", "x"}, []string{"--fork", "--exec", "leave the flag out"}},
		{[]string{"--fork", "--exec", "x"}, []string{"--fork", "--exec", "leave one out"}},
		{[]string{"--wait", "--kill-after=1s", "x"}, []string{"--wait", "--kill-after", "leave one out"}},
		{[]string{"--start-retries=-1", "x"}, []string{"--start-retries", "0 or more"}},
		{[]string{"--revive=sometimes", "x"}, []string{"--revive", "on-failure"}},
		{[]string{"--multi=0", "x"}, []string{"--multi", "from 1"}},
		{[]string{"--multi=80000", "x"}, []string{"--multi", "to 1024"}},
		{[]string{"--multi-reuseport", "x"}, []string{"--multi-reuseport", "--multi=N"}},
		{[]string{"--hup=ignore", "x"}, []string{"--hup", "restart or pass"}},
		{[]string{"--max-generations=1", "x"}, []string{"--max-generations", "2 or more"}},
		{[]string{"--fork=2", "x"}, []string{"--fork", "--help"}},
		{[]string{"--track=all", "x"}, []string{"--track", "connections"}},
		{[]string{"--drain-timeout=5", "x"}, []string{"--drain-timeout", "duration"}},
		{[]string{"--drain-timeout=-5s", "x"}, []string{"--drain-timeout", "30s"}},
		{[]string{"--ready-timeout=0", "x"}, []string{"--ready-timeout", "30s"}},
		{[]string{"--ready-timeout=-1s", "x"}, []string{"--ready-timeout", "30s"}},
		{[]string{"--kill-after=x", "x"}, []string{"--kill-after", "duration"}},
		{[]string{"--kill-after=-1s", "x"}, []string{"--kill-after", "30s"}},
		{[]string{"--stop-signal=0", "x"}, []string{"--stop-signal", "1 to 64"}},
		{[]string{"--stop-signal=TREM", "x"}, []string{"--stop-signal", "TERM"}},
		{[]string{"--env-file=", "x"}, []string{"--env-file", "KEY=VALUE"}},
		{[]string{"--chdir=", "x"}, []string{"--chdir", "directory"}},
		{[]string{"--check= ", "x"}, []string{"--check", "command line"}},
		{[]string{"--unlink=", "x"}, []string{"--unlink", "name of a file"}},
		{[]string{"--pid-file", "", "x"}, []string{"--pid-file", "name of a file"}},
		{[]string{"--daemon=maybe", "x"}, []string{"--daemon", "--help"}},
		{[]string{"--debug=2", "x"}, []string{"--debug", "--help"}},
		{[]string{"--trace=2", "x"}, []string{"--trace", "--help"}},
		{[]string{"--listen=80", "x"}, []string{"--listen=80", "tcp://"}},
		{[]string{"--listen=", "x"}, []string{"--listen", "tcp://"}},
		{[]string{"--listen=tcp://:80", "--listen=tcp://:80", "x"}, []string{"--listen=tcp://:80", "twice"}},
		{[]string{"--pass-fds=2", "x"}, []string{"--pass-fds", "--help"}},
		{[]string{"--log-format=xml", "x"}, []string{"--log-format", "text or json"}},
	} {
		_, err := parse(test.args)
		if err == nil {
			t.Errorf("%q is taken", test.args)
			continue
		}
		for _, want := range test.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %q has no %q", test.args, err, want)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q is no single line", test.args, err)
		}
	}
}

func TestUsageListsEveryFlag(t *testing.T) {
	t.Parallel()
	text := usage()
	flags(&options{}).VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(text, "--"+f.Name) || f.Usage == "" {
			t.Errorf("--%s is not explained", f.Name)
		}
	})
	for _, word := range []string{"SIGHUP", "COMMAND", "125", "126", "127", "128+N"} {
		if !strings.Contains(text, word) {
			t.Errorf("%s is not explained", word)
		}
	}
}

func TestHelpVersionAndFailure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{"huptime", "--help"}, 0, usage(), ""},
		{[]string{"huptime", "-h", "x"}, 0, usage(), ""},
		{[]string{"huptime", "--version"}, 0, "huptime " + version + "\n", ""},
		{[]string{"huptime", "--chdir=", "x"}, 125, "", "huptime: --chdir is empty: write the name of a directory, or leave the flag out\n"},
		{[]string{"huptime daemon", "0", "--version"}, 125, "", "huptime: cannot run in the background: \"0\" is no descriptor; do not start huptime by this name\n"},
	} {
		var stdout, stderr strings.Builder
		status := run(test.args, &stdout, &stderr)
		if status != test.status || stdout.String() != test.stdout || stderr.String() != test.stderr {
			t.Errorf("%q: %d, %q, %q", test.args, status, stdout.String(), stderr.String())
		}
	}
}
