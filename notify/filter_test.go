package notify

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
)

func TestParseLevel(t *testing.T) {
	for _, level := range []Level{LevelConnections, LevelListeners, LevelCalls} {
		if got, err := ParseLevel(string(level)); err != nil || got != level {
			t.Errorf("ParseLevel(%q) = %q, %v", level, got, err)
		}
	}
	for _, s := range []string{"", "Connections", "listeners ", "all"} {
		if got, err := ParseLevel(s); err == nil {
			t.Errorf("ParseLevel(%q) = %q, want an error", s, got)
		}
		if _, err := BuildFilter(Level(s)); err == nil {
			t.Errorf("BuildFilter(%q) built something", s)
		}
	}
}

// What is asked about, whatever the arguments, in each ABI.
func TestFilterTracks(t *testing.T) {
	for _, b := range programs(t) {
		t.Run(b.name, func(t *testing.T) {
			for _, a := range b.covered {
				for name := range a.numbers {
					want := allow
					switch name {
					case "bind", "listen":
						want = ask
					case "accept", "accept4":
						if b.level != LevelListeners {
							want = ask
						}
					case "close":
						if b.level == LevelCalls {
							want = ask
						}
					case "socketcall": // connect
						if asksAboutConnect(b.also) {
							want = ask
						}
					case "connect": // of 16 bytes
						if slices.Contains(b.also, WithEveryConnect) {
							want = ask
						}
					case "unlink", "unlinkat":
						if slices.Contains(b.also, WithUnlink) {
							want = ask
						}
					case "rename", "renameat", "renameat2":
						if slices.Contains(b.also, WithRename) {
							want = ask
						}
					}
					check(t, b, want, a.call(t, name, 3, 0x7ffc00001000, 16), a.name+" "+name)
				}
			}
		})
	}
}

func TestFilterMakesDeaf(t *testing.T) {
	const (
		junk = 0xdeadbeef << 32
		low  = 0x00c0ffee
		high = 0x7ffc00000000 // a pointer whose lower half is zero
	)
	rows := []struct {
		name string
		args [3]uint64
		want uint32
		wide bool // for ABIs of 64 bits only
	}{
		{"set", [3]uint64{1, low, 0}, ask, false},
		{"set and get", [3]uint64{1, low, low}, ask, false},
		{"get", [3]uint64{1, 0, low}, allow, false},
		{"nothing", [3]uint64{1, 0, 0}, allow, false},
		{"INT", [3]uint64{2, low, 0}, allow, false},
		{"USR1", [3]uint64{10, low, low}, allow, false},
		{"signal 0", [3]uint64{0, low, 0}, allow, false},
		{"signal 257", [3]uint64{257, low, 0}, allow, false},
		{"signal -1", [3]uint64{0xffffffff, low, 0}, allow, false},
		{"set, junk above the signal", [3]uint64{junk | 1, low, 0}, ask, false},
		{"set and get, junk above the signal", [3]uint64{junk | 1, low, low}, ask, false},
		{"INT, junk above the signal", [3]uint64{junk | 2, low, 0}, allow, false},
		{"1 in the upper half only", [3]uint64{1 << 32, low, 0}, allow, false},
		{"set, a high pointer", [3]uint64{1, high, 0}, ask, true},
		{"set and get, a high pointer", [3]uint64{1, high, high}, ask, true},
		{"get, a high pointer", [3]uint64{1, 0, high}, allow, true},
		{"set, full pointers", [3]uint64{1, high | low, high | low}, ask, true},
	}
	for _, b := range programs(t) {
		t.Run(b.name, func(t *testing.T) {
			for _, a := range b.covered {
				for _, name := range []string{"rt_sigaction", "sigaction"} {
					if _, ok := a.numbers[name]; !ok {
						continue
					}
					for _, r := range rows {
						if r.wide && !a.wide {
							continue
						}
						check(t, b, r.want, a.call(t, name, r.args[:]...), a.name+" "+name+": "+r.name)
					}
				}
				if _, ok := a.numbers["signal"]; ok {
					check(t, b, skip, a.call(t, "signal", 1, low), "handler for HUP")
					check(t, b, skip, a.call(t, "signal", 1, 0), "default for HUP")
					check(t, b, allow, a.call(t, "signal", 15, low), "handler for TERM")
				}
			}
		})
	}
}

// The multiplexer of i386: its first argument is the call
// (include/uapi/linux/net.h).
func TestFilterSocketcall(t *testing.T) {
	tracked := map[uint64][]Level{
		2:  {LevelConnections, LevelListeners, LevelCalls}, // SYS_BIND
		4:  {LevelConnections, LevelListeners, LevelCalls}, // SYS_LISTEN
		5:  {LevelConnections, LevelCalls},                 // SYS_ACCEPT
		18: {LevelConnections, LevelCalls},                 // SYS_ACCEPT4
	}
	for _, b := range programs(t) {
		if !slices.ContainsFunc(b.covered, func(a abi) bool { return a.name == "i386" }) {
			continue
		}
		for sub := range uint64(25) {
			want := allow
			if slices.Contains(tracked[sub], b.level) || sub == 3 && asksAboutConnect(b.also) {
				want = ask
			}
			check(t, b, want, i386ABI.call(t, "socketcall", sub, 0xffff0000), fmt.Sprintf("socketcall %d", sub))
		}
	}
}

func TestFilterLookAlikes(t *testing.T) {
	rows := []struct {
		name string
		call systemCall
	}{
		{"i386 geteuid, bind's number on amd64", systemCall{number: 49, arch: i386ABI.arch}},
		{"i386 socketcall's number on amd64 (getuid)", systemCall{number: 102, arch: amd64ABI.arch, args: [6]uint64{2}}},
		{"i386 read, close's number on amd64", systemCall{number: 3, arch: i386ABI.arch}},
		{"amd64 lstat, close's number on i386", systemCall{number: 6, arch: amd64ABI.arch}},
		{"x32 has another rt_sigaction", systemCall{number: 0x40000000 | 13, arch: amd64ABI.arch, args: [6]uint64{1, 1}}},
		{"x32's rt_sigaction without its bit", systemCall{number: 512, arch: amd64ABI.arch, args: [6]uint64{1, 1}}},
		{"another high bit than x32's", systemCall{number: 0x80000000 | 49, arch: amd64ABI.arch}},
		{"x32's bit on i386", systemCall{number: 0x40000000 | 361, arch: i386ABI.arch}},
		{"the number -1, which a tracer makes", systemCall{number: 0xffffffff, arch: amd64ABI.arch}},
		{"the number -1 on i386", systemCall{number: 0xffffffff, arch: i386ABI.arch}},
		{"no architecture", systemCall{number: 49}},
		{"mips64 with amd64's bind", systemCall{number: 49, arch: 0x80000008}},
		{"riscv64 with arm64's bind", systemCall{number: 200, arch: 0xc00000f3}},
		{"big-endian arm", systemCall{number: 282, arch: 0x00000028}},
		{"amd64's flags on another machine", systemCall{number: 49, arch: 0xc000003f}},
	}
	for _, b := range programs(t) {
		for _, r := range rows {
			check(t, b, allow, r.call, r.name)
		}
	}
}

// TestFilterAgainstReference compares the program with its description in Go
// on calls made up at random around the values that matter.
func TestFilterAgainstReference(t *testing.T) {
	const rounds = 100_000
	for i, b := range programs(t) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			seen := make(map[uint32]int)
			for range rounds {
				c := randomCall(random)
				want := reference(b.level, b.also, b.covered, c)
				seen[want]++
				if check(t, b, want, c, "random"); t.Failed() {
					return
				}
			}
			for verdict, name := range verdicts {
				t.Logf("%d of %d: %s", seen[verdict], rounds, name)
				if seen[verdict] < rounds/2000 {
					t.Errorf("only %d of %d random calls were to %s: the test tests nothing", seen[verdict], rounds, name)
				}
			}
		})
	}
}

// randomCall makes mostly calls that a test names, of the right or of another
// ABI, with arguments that mostly mean something.
func randomCall(random *rand.Rand) systemCall {
	a := everyABI[random.IntN(len(everyABI))]
	named := sorted()[a.name]
	c := systemCall{
		number:      named[random.IntN(len(named))] | a.bit,
		arch:        a.arch,
		instruction: random.Uint64(),
	}
	switch random.IntN(16) {
	case 0:
		c.number = random.Uint32()
	case 1:
		c.number = random.Uint32N(600)
	case 2:
		c.number ^= 1 << random.IntN(32)
	case 3:
		c.arch = everyABI[random.IntN(len(everyABI))].arch
	case 4:
		c.arch ^= 1 << random.IntN(32)
	}
	values := []uint64{0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 10, 16, 18, 20, 24, 28, 29, 51, 52, 1 << 32, 1<<32 | 1, 0xffffffff, 0xffffffff00000001, 0x7ffc00001000}
	for i := range c.args {
		if c.args[i] = values[random.IntN(len(values))]; random.IntN(8) == 0 {
			c.args[i] = random.Uint64()
		}
	}
	return c
}

// Calls that the filter does not list must be decided by their number, or the
// kernel can't cache them and every read(2) of the service pays.
func TestFilterIsCacheable(t *testing.T) {
	for _, b := range programs(t) {
		conditional := []string{"rt_sigaction", "sigaction", "signal", "socketcall", "setsockopt",
			"kill", "tkill", "rt_sigqueueinfo", "tgkill", "rt_tgsigqueueinfo"}
		if slices.Contains(b.also, WithConnect) {
			conditional = append(conditional, "connect")
		}
		for _, a := range b.covered {
			for number := range uint32(501) {
				c := systemCall{number: number | a.bit, arch: a.arch}
				// A machine that has no arguments to load stops with 0.
				blind := b.machine.run(t, c.packet()[:8])
				verdict, _, ok := byNumber(b.program, c.arch, c.number)
				if ok != (blind != 0) || ok && verdict != blind {
					t.Fatalf("%s: %s %d: the two interpreters differ: %#x and %#x, %v", b.name, a.name, number, blind, verdict, ok)
				}
				_, name := nameOf(c, b.covered)
				if want := !slices.Contains(conditional, name); ok != want {
					t.Errorf("%s: %s %d (%s): decided by the number alone: %v, want %v", b.name, a.name, number, name, ok, want)
				}
			}
		}
	}
}

// Kernels before 5.11 run the program on every call, cached or not.
func TestFilterIsShort(t *testing.T) {
	for _, b := range programs(t) {
		const limit = 14 // the numbers are a binary tree
		if len(b.covered) == len(everyABI) {
			continue // a program that no machine runs
		}
		native := b.covered[0]
		for _, name := range []string{"accept", "accept4", "close", "read", "epoll_wait", "epoll_pwait"} {
			number, ok := native.numbers[name]
			if !ok {
				continue
			}
			verdict, steps, _ := byNumber(b.program, native.arch, number)
			t.Logf("%s: %s %s (%s): %d of %d instructions", b.name, native.name, name, verdicts[verdict], steps, len(b.program))
			if steps > limit {
				t.Errorf("%s: %s %s takes %d instructions, more than %d", b.name, native.name, name, steps, limit)
			}
		}
	}
}

// What the filter asks about, the other half of the package must understand.
func TestFilterAsksWhatCallsDecode(t *testing.T) {
	for _, b := range programs(t) {
		for _, a := range b.covered {
			for number := range uint32(601) {
				c := systemCall{number: number | a.bit, arch: a.arch, args: [6]uint64{1, 1, 51}}
				asked := b.machine.verdict(t, c) == ask
				c.args[2] = 1 // SIGHUP: the third argument of tgkill
				asked = asked || b.machine.verdict(t, c) == ask
				known := callOf(c.arch, int32(c.number)) != CallOther
				if asked && !known || known && !asked && b.level == LevelCalls && len(b.also) == 3 {
					t.Errorf("%s: %s %d: asked about: %v, decoded: %v", b.name, a.name, number, asked, known)
				}
			}
		}
	}
}

// The library has state of its own; builds must not see it, nor each other.
func TestBuildFilterIsDeterministic(t *testing.T) {
	want, err := BuildFilter(LevelConnections)
	if err != nil {
		t.Fatal(err)
	}
	var builds sync.WaitGroup
	for range 8 {
		builds.Go(func() {
			if got, err := BuildFilter(LevelConnections); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("another build: %v\n%v", err, got)
			}
		})
	}
	builds.Wait()
}

func BenchmarkBuildFilter(b *testing.B) {
	for _, level := range []Level{LevelConnections, LevelListeners, LevelCalls} {
		b.Run(string(level), func(b *testing.B) {
			for b.Loop() {
				if _, err := BuildFilter(level); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func check(t *testing.T, b built, want uint32, c systemCall, what string) {
	t.Helper()
	if got := b.machine.verdict(t, c); got != want {
		t.Errorf("%s: %s (number %#x, architecture %#x, arguments %#x): %#x %s, want %s",
			b.name, what, c.number, c.arch, c.args, got, verdicts[got], verdicts[want])
	}
}

// Of all lengths that an address can have, those of IPv4 and IPv6 pass.
func TestFilterConnectLengths(t *testing.T) {
	for _, b := range programs(t) {
		for _, a := range b.covered {
			for length := range uint64(130) {
				want := allow
				if slices.Contains(b.also, WithEveryConnect) || slices.Contains(b.also, WithConnect) && length != 16 && length != 28 {
					want = ask
				}
				check(t, b, want, a.call(t, "connect", 3, 0x7ffc00001000, length), fmt.Sprintf("%s connect, %d bytes", a.name, length))
			}
		}
	}
}
