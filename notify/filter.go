package notify

import (
	"fmt"
	"os"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

type Level string

const (
	LevelConnections Level = "connections"
	LevelListeners   Level = "listeners"
)

func ParseLevel(s string) (Level, error) {
	switch l := Level(s); l {
	case LevelConnections, LevelListeners:
		return l, nil
	}
	return "", fmt.Errorf("no such level")
}

func BuildFilter(level Level) (Program, error) {
	_ = seccomp.SetAPI(6)
	f, err := seccomp.NewFilter(seccomp.ActAllow)
	if err != nil {
		return nil, err
	}
	defer f.Release()
	f.SetBadArchAction(seccomp.ActAllow)
	f.AddArch(seccomp.ArchX86)
	f.AddArch(seccomp.ArchX32)
	for _, n := range []string{"bind", "listen", "accept", "accept4", "close"} {
		c, err := seccomp.GetSyscallFromName(n)
		if err != nil {
			return nil, err
		}
		if err := f.AddRule(c, seccomp.ActNotify); err != nil {
			return nil, err
		}
	}
	c, _ := seccomp.GetSyscallFromName("rt_sigaction")
	sig, _ := seccomp.MakeCondition(0, seccomp.CompareMaskedEqual, 0xffffffff, 1)
	act, _ := seccomp.MakeCondition(1, seccomp.CompareNotEqual, 0)
	old, _ := seccomp.MakeCondition(2, seccomp.CompareEqual, 0)
	noold, _ := seccomp.MakeCondition(2, seccomp.CompareNotEqual, 0)
	if err := f.AddRuleConditional(c, seccomp.ActErrno, []seccomp.ScmpCondition{sig, act, old}); err != nil {
		return nil, err
	}
	if err := f.AddRuleConditional(c, seccomp.ActNotify, []seccomp.ScmpCondition{sig, act, noold}); err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("f", 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "f")
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	var p Program
	err = p.UnmarshalBinary(b)
	return p, err
}
