package proc

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernelName is a name as "Name:" of a status file has it (fs/proc/array.c, proc_task_name).
var kernelName = strings.NewReplacer("\n", `\n`, `\`, `\\`)

// status is a real one (Linux 6.18), cut.
const status = "Name:\tcat\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4702\nNgid:\t0\nPid:\t4703\nPPid:\t1\n" +
	"TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t \nThreads:\t1\nSigQ:\t0/15393\n" +
	"NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t3\n"

// The first line of a key decides, as a regular expression finds it, and no name can forge one.
func FuzzStatusLines(f *testing.F) {
	f.Add([]byte(status), "cat", uint32(4702), uint32(1))
	f.Add([]byte("Tgid:\t2147483648\nTgid:\t1\nSeccomp_filters:\t-1\n"), "\nTgid:\t1\nSeccomp_filters:\t9\n", uint32(1),
		uint32(0))
	f.Add([]byte("Tgid:3 \nSeccomp_filters: 7"), `\`, uint32(1<<31-1), uint32(1<<31-1))
	tgids := regexp.MustCompile(`(?:^|\n)Tgid:[ \t]*([^ \t\n]*)`)
	filters := regexp.MustCompile(`(?:^|\n)Seccomp_filters:[ \t]*([^ \t\n]*)`)
	digits := regexp.MustCompile(`^-?[0-9]+$`)
	number := func(of *regexp.Regexp, b []byte) (n int64, found, ok bool) {
		m := of.FindSubmatch(b)
		if m == nil {
			return 0, false, false
		}
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		return n, true, err == nil && digits.Match(m[1]) && n >= -maxID && n <= maxID
	}
	agree := func(got int, err error, want int64, good bool) bool {
		if !good {
			return got == 0 && errors.Is(err, ErrFormat)
		}
		return int64(got) == want && err == nil
	}
	f.Fuzz(func(t *testing.T, b []byte, name string, tgid, installed uint32) {
		n, _, ok := number(tgids, b)
		if got, err := parseTgid(b); !agree(got, err, n, ok && n > 0) {
			t.Fatalf("%q: thread group %d, %v", b, got, err)
		}
		n, found, ok := number(filters, b)
		if got, err := parseFilters(b); !agree(got, err, n, !found || ok && n >= 0) {
			t.Fatalf("%q: %d filters, %v", b, got, err)
		}
		tgid, installed = tgid%maxID+1, installed%maxID
		text := fmt.Appendf(nil, "Name:\t%s\nState:\tR (running)\nTgid:\t%d\nSeccomp:\t2\nSeccomp_filters:\t%d\n",
			kernelName.Replace(name), tgid, installed)
		if got, err := parseTgid(text); err != nil || got != int(tgid) {
			t.Fatalf("%q: thread group %d, %v", text, got, err)
		}
		if got, err := parseFilters(text); err != nil || got != int(installed) {
			t.Fatalf("%q: %d filters, %v", text, got, err)
		}
	})
}

// A link is read as a regular expression reads it.
func FuzzParseNetNS(f *testing.F) {
	f.Add([]byte("net:[4026531840]"), uint64(4026531840))
	f.Add([]byte("net:[18446744073709551616]"), ^uint64(0))
	f.Add([]byte("net:[]"), uint64(0))
	f.Add([]byte("user:[4026531837]"), uint64(1))
	whole := regexp.MustCompile(`^net:\[([0-9]+)\]$`)
	f.Fuzz(func(t *testing.T, link []byte, inode uint64) {
		var want uint64
		bad := errors.New("no match")
		if m := whole.FindSubmatch(link); m != nil {
			want, bad = strconv.ParseUint(string(m[1]), 10, 64)
		}
		if bad != nil {
			want = 0
		}
		got, err := parseNetNS(link)
		if got != want || (err == nil) != (bad == nil) || err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("%q: %d, %v, want %d", link, got, err, want)
		}
		if got, err := parseNetNS(fmt.Appendf(nil, "net:[%d]", inode)); err != nil || got != inode {
			t.Fatalf("%d is read as %d, %v", inode, got, err)
		}
	})
}

// Whatever socket it is, its protocol is a word, the same by every number that the socket has; and what is no socket
// has none.
func FuzzSocketProtocol(f *testing.F) {
	// Those that need no module to be loaded.
	families := []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX}
	kinds := []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW}
	protocols := []int{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_MPTCP, unix.IPPROTO_ICMP}
	for _, seed := range [][3]byte{{0, 0, 0}, {1, 0, 3}, {0, 1, 0}, {2, 0, 0}, {2, 1, 0}, {2, 2, 0}, {0, 3, 4}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, family, sort, protocol byte) {
		fd, err := unix.Socket(families[int(family)%len(families)], kinds[int(sort)%len(kinds)]|unix.SOCK_CLOEXEC,
			protocols[int(protocol)%len(protocols)])
		if err != nil {
			return
		}
		defer unix.Close(fd)
		name, err := SocketProtocol(os.Getpid(), fd)
		if err != nil || !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(name) {
			t.Fatalf("%q, %v", name, err)
		}
		domain, errDomain := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		kind, errKind := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		number, errNumber := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err := errors.Join(errDomain, errKind, errNumber); err != nil {
			t.Fatal(err)
		}
		internet := domain == unix.AF_INET || domain == unix.AF_INET6
		// What restarts hang on: package sockets asks whether "TCP" is in it.
		tcp := internet && kind == unix.SOCK_STREAM && (number == unix.IPPROTO_TCP || number == unix.IPPROTO_MPTCP)
		if strings.Contains(name, "TCP") != tcp {
			t.Fatalf("protocol %d of type %d of family %d is %q", number, kind, domain, name)
		}
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dup)
		if again, err := SocketProtocol(os.Getpid(), dup); err != nil || again != name {
			t.Fatalf("%q, but by its other number %q, %v", name, again, err)
		}
		null, err := unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(null)
		if name, err := SocketProtocol(os.Getpid(), null); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatalf("/dev/null: %q, %v", name, err)
		}
	})
}
