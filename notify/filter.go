package notify

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Level is how much of what a service does its filter asks about (--track).
type Level string

const (
	// LevelAuto is chosen at launch: listeners where remote calls are
	// permitted, else connections. No filter is built for it.
	LevelAuto Level = "auto"
	// LevelConnections asks about bind, listen, accept and accept4: it
	// works on every process, at the price of two context switches a call.
	LevelConnections Level = "connections"
	// LevelListeners asks about bind and listen: nothing on the hot path.
	LevelListeners Level = "listeners"
	// LevelCalls asks about bind, listen, accept, accept4 and close: what is closed is known at once, at the price of two
	// more context switches for each close, whatever it closes. It is never chosen by LevelAuto.
	LevelCalls Level = "calls"
)

// asksAboutAccept tells whether accept and accept4 are notified.
func (l Level) asksAboutAccept() bool { return l == LevelConnections || l == LevelCalls }

// ParseLevel reads a level as a user writes it.
func ParseLevel(s string) (Level, error) {
	switch l := Level(s); l {
	case LevelAuto, LevelConnections, LevelListeners, LevelCalls:
		return l, nil
	}
	return "", fmt.Errorf("unknown level %q: want %s, %s, %s or %s", s, LevelAuto, LevelListeners, LevelConnections, LevelCalls)
}

// BuildFilter makes the program that a launcher loads. It covers every ABI of
// this machine; a call of any other passes, because huptime is no sandbox.
// Building needs no privilege, no file system and nothing of the kernel.
//
// Besides the level's calls, the program keeps the service from hearing
// SIGHUP: of a new action for it the supervisor is asked, which notes it and
// answers success. It is asked as well of SIGHUPs that the service sends, because
// those to a process's own threads are to be heard.
//
// Options change that.
func BuildFilter(level Level, options ...FilterOption) (Program, error) {
	if level != LevelListeners && !level.asksAboutAccept() {
		return nil, fmt.Errorf("cannot build the filter: no level %q", level)
	}
	native, err := seccomp.GetNativeArch()
	if err != nil {
		return nil, fmt.Errorf("cannot build the filter: %w", err)
	}
	rules := trackingRules(level)
	rules = append(rules, steeringRules()...)
	rules = append(rules, pathRules(options)...)
	rules = append(rules, connectRules(options)...)
	if !slices.Contains(options, WithSIGHUP) {
		rules = append(rules, deafnessRules()...)
	}
	program, err := buildFilter(rules, siblings[native])
	if err != nil {
		return nil, fmt.Errorf("cannot build the filter: %w", err)
	}
	return program, nil
}

// FilterOption changes what a filter asks about.
type FilterOption uint8

const (
	// WithSIGHUP leaves the service its SIGHUP.
	WithSIGHUP FilterOption = iota + 1
	// WithUnlink asks about unlink and unlinkat, for who keeps paths from being removed.
	WithUnlink
	// WithRename asks about rename, renameat and renameat2, likewise.
	WithRename
	// WithConnect asks about connect with an address that is not as long as those of IPv4 and IPv6: unix sockets.
	WithConnect
	// WithEveryConnect asks about every connect.
	WithEveryConnect
)

// siblings are the 32-bit ABIs that a machine's kernel may run programs of.
var siblings = map[seccomp.ScmpArch][]seccomp.ScmpArch{
	seccomp.ArchAMD64: {seccomp.ArchX86, seccomp.ArchX32},
	seccomp.ArchARM64: {seccomp.ArchARM},
}

// pinAPI fixes, once for the process, what libseccomp takes the kernel to be
// capable of. Left alone it probes the kernel by seccomp(2) (the Go binding makes
// it do so at init), and refuses rules with ActNotify where that is denied;
// but what can be done here is for [Probe] to say, in words, and building
// depends on its arguments only. Level 6 (seccomp_api_get(3)) and not 5, which
// has user notification already, because the binding asks every filter for
// TSYNC, and the library takes the two together from 6 on. Neither matters to
// the program: the flags are the launcher's.
var pinAPI = sync.OnceValue(func() error { return seccomp.SetAPI(6) })

// buildFilter covers the native ABI and others.
func buildFilter(rules []rule, others []seccomp.ScmpArch) (Program, error) {
	if err := pinAPI(); err != nil {
		return nil, err
	}
	f, err := seccomp.NewFilter(seccomp.ActAllow)
	if err != nil {
		return nil, err
	}
	defer f.Release()
	// The library's default for an unknown ABI is to kill.
	if err := f.SetBadArchAction(seccomp.ActAllow); err != nil {
		return nil, err
	}
	for _, arch := range others {
		if err := f.AddArch(arch); err != nil {
			return nil, fmt.Errorf("%v: %w", arch, err)
		}
	}
	// A binary tree of numbers: compared one after the other they take an instruction for each call of a rule, and one for
	// x32, ten for kill and its relations alone. A kernel before 5.11 runs them at every call of the service.
	const tree = 2
	if err := f.SetOptimize(tree); err != nil {
		return nil, err
	}
	// After the last AddArch: rules go to the ABIs that are there.
	for _, r := range rules {
		if err := r.addTo(f); err != nil {
			return nil, fmt.Errorf("%s: %w", r.call, err)
		}
	}
	return export(f)
}

// A rule names a call; libseccomp knows its number in each ABI. An ABI that has
// no such call (sigaction on 64 bits) goes without the rule. For i386 a rule
// about a socket call is two: one for its number, one for socketcall(2).
type rule struct {
	call       string
	action     seccomp.ScmpAction
	conditions []seccomp.ScmpCondition // all of them must hold
}

func (r rule) addTo(f *seccomp.ScmpFilter) error {
	number, err := seccomp.GetSyscallFromName(r.call)
	if err != nil {
		return err
	}
	return f.AddRuleConditional(number, r.action, r.conditions)
}

func trackingRules(level Level) []rule {
	rules := []rule{
		{call: "bind", action: seccomp.ActNotify},
		{call: "listen", action: seccomp.ActNotify},
	}
	if level.asksAboutAccept() {
		rules = append(rules,
			rule{call: "accept", action: seccomp.ActNotify},
			rule{call: "accept4", action: seccomp.ActNotify},
		)
	}
	if level == LevelCalls {
		rules = append(rules, rule{call: "close", action: seccomp.ActNotify})
	}
	return rules
}

// steeringRules are about the options by which a service attaches a program of its own to a SO_REUSEPORT group: there is
// none that tells whether it did. i386's socketcall has its arguments in memory, and passes.
func steeringRules() []rule {
	equals := func(argument uint, value uint64) seccomp.ScmpCondition {
		return seccomp.ScmpCondition{Argument: argument, Op: seccomp.CompareMaskedEqual, Operand1: 0xffffffff, Operand2: value}
	}
	var rules []rule
	for _, option := range []uint64{unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF} {
		rules = append(rules, rule{"setsockopt", seccomp.ActNotify, []seccomp.ScmpCondition{equals(1, unix.SOL_SOCKET), equals(2, option)}})
	}
	return rules
}

// pathRules asks about the calls that take a name out of a directory. Which path it is
// can't be seen by a filter, so every one of them is asked about.
func pathRules(options []FilterOption) []rule {
	var names []string
	if slices.Contains(options, WithUnlink) {
		names = append(names, "unlink", "unlinkat")
	}
	if slices.Contains(options, WithRename) {
		names = append(names, "rename", "renameat", "renameat2")
	}
	var rules []rule
	for _, name := range names {
		rules = append(rules, rule{call: name, action: seccomp.ActNotify})
	}
	return rules
}

// deafnessRules are about all calls that set what SIGHUP does. The arguments
// are in every ABI: signal, new action, old action. Conditions come after the
// number, so other calls stay free of them and can be cached by the kernel
// (seccomp_cache_prepare in kernel/seccomp.c, 5.11).
func deafnessRules() []rule {
	// The kernel takes an int, so junk in the upper half of the register does
	// not make SIGHUP another signal. For this operator the first operand is
	// the mask, whatever the binding's documentation of MakeCondition says.
	hup := seccomp.ScmpCondition{Argument: 0, Op: seccomp.CompareMaskedEqual, Operand1: 0xffffffff, Operand2: uint64(unix.SIGHUP)}
	// A call without a new action is a query and passes.
	set := seccomp.ScmpCondition{Argument: 1, Op: seccomp.CompareNotEqual, Operand1: 0}

	skip := seccomp.ActErrno.SetReturnCode(0) // errno 0: not done, and a success
	rules := []rule{
		// The one without pointers (i386 only). It returns the old handler, so
		// the success reads as SIG_DFL.
		{"signal", skip, []seccomp.ScmpCondition{hup}},
	}
	for _, call := range []string{"rt_sigaction", "sigaction"} {
		rules = append(rules, rule{call, seccomp.ActNotify, []seccomp.ScmpCondition{hup, set}})
	}
	// What a program sends to itself it is to hear. Which argument is the signal's number depends on the call.
	for _, send := range []struct {
		call     string
		argument uint
	}{{"kill", 1}, {"tkill", 1}, {"tgkill", 2}, {"rt_sigqueueinfo", 1}, {"rt_tgsigqueueinfo", 2}} {
		hup.Argument = send.argument
		rules = append(rules, rule{send.call, seccomp.ActNotify, []seccomp.ScmpCondition{hup}})
	}
	return rules
}

// export reads the finished program out of the library, which in 2.5 writes it
// to a descriptor only. Memory is one that a read-only container has, too.
func export(f *seccomp.ScmpFilter) (Program, error) {
	file, err := memoryFile()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	var program Program
	err = program.UnmarshalBinary(raw)
	return program, err
}

// memoryFile makes a file without a file system. The caller closes it.
func memoryFile() (*os.File, error) {
	const name = "huptime filter"
	// Hardened machines refuse a memfd that could be executed (vm.memfd_noexec,
	// 6.3); kernels before 6.3 refuse the flag that says it won't be.
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
