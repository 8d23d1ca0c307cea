package notify

import (
	"fmt"
	"slices"

	seccomp "github.com/seccomp/libseccomp-golang"
)

// BuildConnectFilter makes the program for a command that is no service, of which every connect is asked about and nothing else. As [BuildFilter],
// it needs nothing of the kernel.
func BuildConnectFilter() (Program, error) {
	native, err := seccomp.GetNativeArch()
	if err != nil {
		return nil, fmt.Errorf("cannot build the filter: %w", err)
	}
	program, err := buildFilter(connectRules([]FilterOption{WithEveryConnect}), siblings[native])
	if err != nil {
		return nil, fmt.Errorf("cannot build the filter: %w", err)
	}
	return program, nil
}

// connectRules asks about connect. Whom a service connects to is in its memory; what a filter can see is how long the address is. Those of the internet,
// which are most and the ones whose cost matters, have 16 and 28 bytes (struct sockaddr_in and sockaddr_in6). A rule may compare
// an argument once (seccomp_rule_add(3)), so the others are told by their bits: 10000 and 11100 are the two that pass. i386's socketcall
// has its arguments in memory, and every connect by it is asked about.
func connectRules(options []FilterOption) []rule {
	if slices.Contains(options, WithEveryConnect) {
		return []rule{{call: "connect", action: seccomp.ActNotify}}
	}
	if !slices.Contains(options, WithConnect) {
		return nil
	}
	const length = 2 // which argument
	multiplexed := seccomp.ScmpCondition{Argument: 0, Op: seccomp.CompareMaskedEqual, Operand1: 0xffffffff, Operand2: socketcallConnect}
	rules := []rule{{"socketcall", seccomp.ActNotify, []seccomp.ScmpCondition{multiplexed}}, {"connect", seccomp.ActNotify, []seccomp.ScmpCondition{{Argument: length, Op: seccomp.CompareGreater, Operand1: 28}}}}
	for _, bits := range [][2]uint64{{0b10000, 0}, {0b00001, 0b00001}, {0b00010, 0b00010}, {0b01100, 0b00100}, {0b01100, 0b01000}} {
		rules = append(rules, rule{"connect", seccomp.ActNotify, []seccomp.ScmpCondition{
			{Argument: length, Op: seccomp.CompareMaskedEqual, Operand1: bits[0], Operand2: bits[1]},
		}})
	}
	return rules
}
