package suite

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// linkLocal is a link-local address of this machine with its zone, or the test is skipped.
func linkLocal(t *testing.T) (addr, device string) {
	t.Helper()
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		addrs, _ := d.Addrs()
		for _, a := range addrs {
			ip, ok := a.(*net.IPNet)
			if ok && d.Flags&net.FlagUp != 0 && ip.IP.To4() == nil && ip.IP.IsLinkLocalUnicast() {
				return ip.IP.String(), d.Name
			}
		}
	}
	t.Skip("unsupported here: no interface has a link-local IPv6 address")
	return "", ""
}

// onlyIPv6 skips the test where the machine has no IPv6.
func onlyIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("unsupported here: IPv6:", err)
	}
	l.Close()
}

// TestIPv6 restarts services with every kind of IPv6 address under load. An IPv6 wildcard for IPv6 alone and one of IPv4 share a port, and
// each client must reach the family that it asks for: the two are told apart by the service's own word.
func TestIPv6(t *testing.T) {
	onlyIPv6(t)
	for name, listens := range map[string]func(t *testing.T, port int) (addrs string, dials []string){
		"both families": func(_ *testing.T, port int) (string, []string) {
			return fmt.Sprintf("tcp6/[::]:%d,tcp4/0.0.0.0:%d", port, port), []string{fmt.Sprintf("[::1]:%d", port), fmt.Sprintf("127.0.0.1:%d", port)}
		},
		"dual stack": func(_ *testing.T, port int) (string, []string) {
			return fmt.Sprintf("[::]:%d", port), []string{fmt.Sprintf("[::1]:%d", port), fmt.Sprintf("127.0.0.1:%d", port)}
		},
		"loopback": func(_ *testing.T, port int) (string, []string) {
			return fmt.Sprintf("[::1]:%d", port), []string{fmt.Sprintf("[::1]:%d", port)}
		},
		"mapped": func(_ *testing.T, port int) (string, []string) {
			return fmt.Sprintf("mapped/127.0.0.1:%d", port), []string{fmt.Sprintf("127.0.0.1:%d", port)}
		},
		"scope": func(t *testing.T, port int) (string, []string) {
			ip, device := linkLocal(t)
			at := fmt.Sprintf("[%s%%%s]:%d", ip, device, port)
			return at, []string{at}
		},
		"scope, TCP": func(t *testing.T, port int) (string, []string) {
			ip, device := linkLocal(t)
			at := fmt.Sprintf("[%s%%%s]:%d", ip, device, port)
			return "plain/" + at, []string{at}
		},
		"device": func(t *testing.T, port int) (string, []string) {
			bindsDevice(t)
			return fmt.Sprintf("device=lo/127.0.0.1:%d", port), []string{fmt.Sprintf("127.0.0.1:%d", port)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				s := golang(t)
				addrs, dials := listens(t, freePort(t))
				s.command = []string{goserver, "-addr", addrs}
				h := s.run(t, level)
				var others []*load
				for _, addr := range dials[1:] {
					others = append(others, startLoad(t, addr, s.ask, 2))
				}
				s.addr = dials[0]
				h.restartsUnderLoad(s, 5, name+" at "+level, "nobody listens on an address any more; it is closed", "a bind is going to fail")
				for _, l := range others {
					l.check("the other address")
				}
				if planted, sockets := h.count("preserved socket planted"), strings.Count(addrs, ",")+1; planted != 5*sockets {
					t.Errorf("%d sockets were planted, not %d", planted, 5*sockets)
				}
			})
		})
	}
}

// TestListenIPv6: what huptime opens is what the service asks for; where it asks for another thing, the log says so.
func TestListenIPv6(t *testing.T) {
	onlyIPv6(t)
	for name, c := range map[string]struct {
		listen  []string
		service string
		dials   []string
	}{
		"dual stack":    {[]string{"tcp://[::]:%d"}, "[::]:%d", []string{"[::1]:%d", "127.0.0.1:%d"}},
		"all":           {[]string{"tcp://:%d"}, ":%d", []string{"[::1]:%d", "127.0.0.1:%d"}},
		"IPv6 only":     {[]string{"tcp6://[::]:%d"}, "tcp6/[::]:%d", []string{"[::1]:%d"}},
		"both families": {[]string{"tcp://[::]:%d", "tcp://0.0.0.0:%d"}, "tcp6/[::]:%d,tcp4/0.0.0.0:%d", []string{"[::1]:%d", "127.0.0.1:%d"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, level string) {
				port := freePort(t)
				at := func(format string) string { return strings.ReplaceAll(format, "%d", fmt.Sprint(port)) }
				flags := []string{"--track=" + level}
				for _, l := range c.listen {
					flags = append(flags, "--listen="+at(l))
				}
				s := golang(t)
				h := start(t, append(flags, goserver, "-addr", at(c.service)))
				h.await("generation ready", 1)
				var others []*load
				for _, addr := range c.dials[1:] {
					others = append(others, startLoad(t, at(addr), s.ask, 2))
				}
				s.addr = at(c.dials[0])
				h.restartsUnderLoad(s, 3, name+" at "+level)
				for _, l := range others {
					l.check("the other address")
				}
				if n := h.count("nobody has claimed an address that huptime listens on; clients wait until somebody does"); n > 0 {
					t.Error("an address was not claimed")
				}
			})
		})
	}
	t.Run("another", func(t *testing.T) {
		port := freePort(t)
		h := start(t, []string{fmt.Sprintf("--listen=tcp://[::]:%d", port), goserver, "-addr", fmt.Sprintf("tcp6/[::]:%d", port)})
		if e := h.await("a bind is going to fail", 1); !strings.Contains(e.Why, "(IPv6 only)") || !strings.Contains(e.Why, "tcp6://") {
			t.Errorf("%+v", e)
		}
		if status := h.exit(); status != 1 {
			t.Errorf("exit status %d", status)
		}
	})
}

// bindsDevice skips the test where SO_BINDTODEVICE is not permitted.
func bindsDevice(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, "lo"); err != nil {
		t.Skip("unsupported here: SO_BINDTODEVICE:", err)
	}
}
