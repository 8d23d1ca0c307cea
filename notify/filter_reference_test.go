package notify

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"

	seccomp "github.com/seccomp/libseccomp-golang"
)

// abi is one way of making system calls, as the tests know it: the numbers
// are from the kernel's tables (syscall_64.tbl, syscall_32.tbl, arm's
// syscall.tbl, asm-generic/unistd.h), not from libseccomp nor from call.go.
type abi struct {
	name    string
	arch    uint32
	bit     uint32 // set in every number
	wide    bool   // pointers of 64 bits
	numbers map[string]uint32
	library seccomp.ScmpArch
}

var (
	amd64ABI = abi{"amd64", 0xc000003e, 0, true, map[string]uint32{
		"read": 0, "close": 3, "rt_sigaction": 13, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "epoll_wait": 232, "accept4": 288,
		"rename": 82, "rmdir": 84, "unlink": 87, "unlinkat": 263, "renameat": 264, "linkat": 265, "renameat2": 316, "setsockopt": 54,
		"kill": 62, "tkill": 200, "rt_sigqueueinfo": 129, "tgkill": 234, "rt_tgsigqueueinfo": 297,
	}, seccomp.ArchAMD64}
	x32ABI = abi{"x32", 0xc000003e, 0x40000000, false, map[string]uint32{
		"read": 0, "close": 3, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "epoll_wait": 232, "accept4": 288, "rt_sigaction": 512,
		"rename": 82, "rmdir": 84, "unlink": 87, "unlinkat": 263, "renameat": 264, "linkat": 265, "renameat2": 316, "setsockopt": 541,
		"kill": 62, "tkill": 200, "rt_sigqueueinfo": 524, "tgkill": 234, "rt_tgsigqueueinfo": 536,
	}, seccomp.ArchX32}
	i386ABI = abi{"i386", 0x40000003, 0, false, map[string]uint32{
		"read": 3, "close": 6, "signal": 48, "sigaction": 67, "socketcall": 102, "rt_sigaction": 174, "epoll_wait": 256,
		"bind": 361, "connect": 362, "listen": 363, "accept4": 364,
		"unlink": 10, "rename": 38, "rmdir": 40, "unlinkat": 301, "renameat": 302, "linkat": 303, "renameat2": 353, "setsockopt": 366,
		"kill": 37, "tkill": 238, "rt_sigqueueinfo": 178, "tgkill": 270, "rt_tgsigqueueinfo": 335,
	}, seccomp.ArchX86}
	arm64ABI = abi{"arm64", 0xc00000b7, 0, true, map[string]uint32{
		"epoll_pwait": 22, "close": 57, "read": 63, "rt_sigaction": 134, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "accept4": 242,
		"unlinkat": 35, "linkat": 37, "renameat": 38, "renameat2": 276, "setsockopt": 208,
		"kill": 129, "tkill": 130, "rt_sigqueueinfo": 138, "tgkill": 131, "rt_tgsigqueueinfo": 240,
	}, seccomp.ArchARM64}
	armABI = abi{"arm", 0x40000028, 0, false, map[string]uint32{
		"read": 3, "close": 6, "sigaction": 67, "rt_sigaction": 174, "epoll_wait": 252,
		"bind": 282, "connect": 283, "listen": 284, "accept": 285, "accept4": 366,
		"unlink": 10, "rename": 38, "rmdir": 40, "unlinkat": 328, "renameat": 329, "linkat": 330, "renameat2": 382, "setsockopt": 294,
		"kill": 37, "tkill": 238, "rt_sigqueueinfo": 178, "tgkill": 268, "rt_tgsigqueueinfo": 363,
	}, seccomp.ArchARM}

	everyABI = []abi{amd64ABI, x32ABI, i386ABI, arm64ABI, armABI}
)

// sorted are the numbers in an order that does not change from run to run.
var sorted = sync.OnceValue(func() map[string][]uint32 {
	all := make(map[string][]uint32)
	for _, a := range everyABI {
		all[a.name] = slices.Sorted(maps.Values(a.numbers))
	}
	return all
})

// call makes a call of this ABI by its name.
func (a abi) call(t testing.TB, name string, args ...uint64) systemCall {
	t.Helper()
	number, ok := a.numbers[name]
	if !ok {
		t.Fatalf("%s has no %s", a.name, name)
	}
	c := systemCall{number: number | a.bit, arch: a.arch, instruction: 0x7f0012345678}
	copy(c.args[:], args)
	return c
}

// nameOf is what the ABIs given call c, "" for a call that no test names.
func nameOf(c systemCall, covered []abi) (abi, string) {
	for _, a := range covered {
		for name, number := range a.numbers {
			if a.arch == c.arch && number|a.bit == c.number {
				return a, name
			}
		}
	}
	return abi{}, ""
}

// reference is the filter in Go.
func reference(level Level, also []FilterOption, covered []abi, c systemCall) uint32 {
	tracked := func(name string) bool {
		switch name {
		case "bind", "listen":
			return true
		case "accept", "accept4":
			return level != LevelListeners
		case "close":
			return level == LevelCalls
		case "unlink", "unlinkat":
			return slices.Contains(also, WithUnlink)
		case "rename", "renameat", "renameat2":
			return slices.Contains(also, WithRename)
		}
		return false
	}
	a, name := nameOf(c, covered)
	present := func(pointer uint64) bool {
		if !a.wide {
			pointer = uint64(uint32(pointer))
		}
		return pointer != 0
	}
	hangup := int32(uint32(c.args[0])) == 1
	switch name {
	case "rt_sigaction", "sigaction":
		if !hangup || !present(c.args[1]) {
			return allow
		}
		return ask
	case "kill", "tkill", "rt_sigqueueinfo":
		if int32(uint32(c.args[1])) == 1 {
			return ask
		}
		return allow
	case "tgkill", "rt_tgsigqueueinfo":
		if int32(uint32(c.args[2])) == 1 {
			return ask
		}
		return allow
	case "signal":
		if hangup {
			return skip
		}
		return allow
	case "setsockopt": // SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF and SO_ATTACH_REUSEPORT_EBPF
		if option := uint32(c.args[2]); uint32(c.args[1]) == 1 && (option == 51 || option == 52) {
			return ask
		}
		return allow
	case "connect":
		if length := c.args[2]; slices.Contains(also, WithEveryConnect) || slices.Contains(also, WithConnect) && (length > 28 || length != 16 && length != 28) {
			return ask
		}
		return allow
	case "socketcall":
		if uint32(c.args[0]) == 3 && asksAboutConnect(also) { // its arguments are in memory: any connect
			return ask
		}
		name = map[uint32]string{2: "bind", 4: "listen", 5: "accept", 18: "accept4"}[uint32(c.args[0])]
	}
	if tracked(name) {
		return ask
	}
	return allow
}

func asksAboutConnect(also []FilterOption) bool {
	return slices.Contains(also, WithConnect) || slices.Contains(also, WithEveryConnect)
}

// built is a program with the ABIs that it covers.
type built struct {
	name    string
	level   Level
	also    []FilterOption
	covered []abi
	program Program
	machine machine
}

// programs builds for each level what BuildFilter makes here, and a program
// for every ABI there is, so that those of the other machine are tested as well.
func programs(t testing.TB) []built {
	t.Helper()
	here := []abi{amd64ABI, x32ABI, i386ABI}
	if runtime.GOARCH == "arm64" {
		here = []abi{arm64ABI, armABI}
	}
	var others []seccomp.ScmpArch
	for _, a := range everyABI {
		others = append(others, a.library)
	}
	var all []built
	for _, level := range []Level{LevelConnections, LevelListeners, LevelCalls} {
		for _, also := range [][]FilterOption{nil, {WithUnlink}, {WithUnlink, WithRename}, {WithConnect}, {WithUnlink, WithRename, WithEveryConnect}} {
			name := fmt.Sprint(level, also)
			p, err := BuildFilter(level, also...)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, built{name + " here", level, also, here, p, newMachine(t, p)})
			p, err = buildFilter(slices.Concat(trackingRules(level), steeringRules(), pathRules(also), connectRules(also), deafnessRules()), others)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, built{name + " everywhere", level, also, everyABI, p, newMachine(t, p)})
		}
	}
	return all
}
