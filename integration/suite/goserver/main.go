// Command goserver is the static Go service of the integration tests. It knows
// nothing of huptime.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	addrs := flag.String("addr", "", "addresses to listen on, comma-separated; tcp4/, tcp6/ (IPv6 only), reuseport/ (with SO_REUSEPORT) or nothing before each")
	version := flag.String("version", "", "file that holds the version, read at start")
	config := flag.String("config", "", "file with words that say how this start behaves: exit=N, kill=N, never, delay=D, also=ADDR, between=D (sleep between two addresses), eat=N (MiB of memory)")
	hup := flag.Bool("hup", false, "handle SIGHUP, and die of it")
	reportHUP := flag.Bool("report-hup", false, "say so at SIGHUP, and live on")
	ignore := flag.Bool("ignore-term", false, "ignore SIGTERM")
	lock := flag.String("lock", "", "file to lock: the service must not run twice; 4 is the exit status if it does")
	closeAtUSR1 := flag.Bool("close-at-usr1", false, "close the listening sockets at SIGUSR1, and live on")
	undumpable := flag.String("undumpable", "", "before or after: make the process undumpable before it binds, or when it listens")
	report := flag.Bool("report-signals", false, "print signals, and exit with 42 at QUIT")
	activation := flag.Bool("activation", false, "take the sockets that LISTEN_FDS says are open, and bind none in their place")
	datagrams := flag.String("datagrams", "", "answer datagrams in place of connections: networks and addresses, comma-separated, such as udp/127.0.0.1:53; udp:block/ for a thread that waits in recvfrom")
	after := flag.Duration("after", 0, "with -datagrams: answer so long after the question")
	versions := flag.String("versions", "", "a file that says in which way this version is broken: see versions.go")
	flag.Parse()
	if *versions != "" {
		serveVersion(*addrs, *versions)
	}
	reportActivation()
	if *hup {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGHUP)
		go func() { <-c; fmt.Println("heard SIGHUP"); os.Exit(9) }()
	}
	if *reportHUP {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGHUP)
		go func() {
			for range c {
				fmt.Fprintln(os.Stderr, "heard SIGHUP")
			}
		}()
	}
	if *ignore {
		signal.Ignore(syscall.SIGTERM)
	}
	if *report {
		go printSignals()
	}
	between := behave(*config, addrs)
	if *lock != "" {
		lockOrExit(*lock)
	}
	if *datagrams != "" {
		serveDatagrams(*datagrams, *after)
	}
	text := "none"
	if *version != "" {
		b, _ := os.ReadFile(*version)
		text = strings.TrimSpace(string(b))
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "pid=%d version=%s\n", os.Getpid(), text)
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		fmt.Fprintf(w, "pid=%d version=%s\n", os.Getpid(), text)
	})
	// out asks the first address over a connection of its own: outgoing connections are untouched.
	http.HandleFunc("/out", func(w http.ResponseWriter, _ *http.Request) {
		resp, err := http.Get("http://" + strings.Split(*addrs, ",")[0])
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		resp.Body.Close()
		fmt.Fprintf(w, "pid=%d version=%s\n", os.Getpid(), strconv.Itoa(resp.StatusCode))
	})
	failed := make(chan error)
	if *undumpable == "before" {
		hide()
	}
	var listeners []net.Listener
	for i, addr := range strings.Split(*addrs, ",") {
		if i > 0 {
			time.Sleep(between)
		}
		l, err := (net.Listener)(nil), (error)(nil)
		if *activation {
			l, err = activated(i)
		}
		if l == nil && err == nil {
			l, err = listen(addr)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprintf(os.Stderr, "listening pid=%d addr=%s\n", os.Getpid(), l.Addr())
		if *closeAtUSR1 {
			go closeAtSignal(l)
		}
		listeners = append(listeners, l)
	}
	if *undumpable == "after" {
		hide()
	}
	for _, l := range listeners { // when all are there: who accepts must be able to answer
		go func() {
			if err := http.Serve(l, nil); !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		}()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}

// hide makes the process one that others may not look into (PR_SET_DUMPABLE in prctl(2)).
func hide() { syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0) }

func listen(addr string) (net.Listener, error) {
	if strings.HasPrefix(addr, "/") {
		l, err := net.Listen("unix", addr)
		if err == nil {
			l.(*net.UnixListener).SetUnlinkOnClose(true)
		}
		return l, err
	}
	network, rest, ok := strings.Cut(addr, "/")
	if !ok {
		network, rest = "tcp", addr
	}
	var lc net.ListenConfig
	switch device, bound := strings.CutPrefix(network, "device="); {
	case network == "mptcp":
		lc.SetMultipathTCP(true)
		network = "tcp"
	case network == "plain":
		lc.SetMultipathTCP(false)
		network = "tcp"
	case network == "mapped":
		return listenMapped(rest)
	case bound:
		network = "tcp"
		lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
			_ = c.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), device) })
			return err
		}
	}
	if network == "reuseport" {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			const soReusePort = 15 // not in package syscall on every architecture
			errControl := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1) })
			return errors.Join(errControl, err)
		}
		network = "tcp"
	}
	return lc.Listen(context.Background(), network, rest)
}

// lockOrExit keeps the file open and locked until the process ends.
func lockOrExit(file string) {
	fd, err := syscall.Open(file, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err == nil {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "runs already:", err)
		os.Exit(4)
	}
}

func closeAtSignal(l net.Listener) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	<-c
	l.Close()
	fmt.Fprintln(os.Stderr, "closed its listening socket")
}

var eaten []byte

// behave does what the words in the file say.
func behave(file string, addrs *string) (between time.Duration) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Split(bufio.ScanWords)
	for s.Scan() {
		word, value, _ := strings.Cut(s.Text(), "=")
		switch word {
		case "exit":
			n, _ := strconv.Atoi(value)
			os.Exit(n)
		case "kill":
			n, _ := strconv.Atoi(value)
			syscall.Kill(os.Getpid(), syscall.Signal(n))
		case "never":
			time.Sleep(time.Hour)
		case "delay":
			d, _ := time.ParseDuration(value)
			time.Sleep(d)
		case "also":
			*addrs += "," + value
		case "eat":
			n, _ := strconv.Atoi(value)
			eaten = make([]byte, n<<20)
			for i := 0; i < len(eaten); i += 4096 {
				eaten[i] = 1
			}
		case "between":
			between, _ = time.ParseDuration(value)
		}
	}
	return between
}

func printSignals() {
	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGQUIT, syscall.SIGALRM)
	for sig := range c {
		fmt.Fprintf(os.Stderr, "signal=%d pid=%d\n", sig, os.Getpid())
		if sig == syscall.SIGQUIT {
			os.Exit(42)
		}
	}
}
