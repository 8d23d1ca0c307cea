package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limit is how long an attempt may take that is meant to succeed.
const limit = 10 * time.Second

func parse(t *testing.T, text string) Probe {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// expect compares an attempt's error with its parts; none mean success.
func expect(t *testing.T, err error, parts ...string) {
	t.Helper()
	switch {
	case len(parts) == 0 && err != nil:
		t.Errorf("failed: %v", err)
	case len(parts) != 0 && err == nil:
		t.Errorf("passed; want %q", parts)
	case err != nil && (!oneLine(err.Error()) || len(err.Error()) > 3*maxQuoted):
		t.Errorf("not one short line: %q", err)
	}
	for _, part := range parts {
		if err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("%q; want %q in it", err, part)
		}
	}
}

// raw is a server that does as it likes with each connection.
func raw(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the test closes the listener
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// unused is an address that nobody listens on.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCP(t *testing.T) {
	closed := make(chan error, 1)
	address := raw(t, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		closed <- err
	})
	expect(t, parse(t, "tcp://"+address).Try(t.Context(), Options{Timeout: limit}))
	if err := <-closed; err != io.EOF {
		t.Errorf("the connection was not closed: %v", err)
	}
	address = unused(t)
	err := parse(t, "tcp://"+address).Try(t.Context(), Options{Timeout: limit})
	expect(t, err, "tcp://"+address+": cannot connect: connection refused")
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v is not ECONNREFUSED", err)
	}
}

func TestTCPThatDoesNotAnswer(t *testing.T) {
	silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	p := parse(t, "tcp://127.0.0.1:1")
	err := p.Try(t.Context(), Options{Timeout: 10 * time.Millisecond, Dial: silent})
	expect(t, err, "tcp://127.0.0.1:1: no answer within 10ms")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the restart was called off")
	cancel(cause)
	err = p.Try(ctx, Options{Timeout: limit, Dial: silent})
	expect(t, err, "tcp://127.0.0.1:1: the restart was called off")
	if !errors.Is(err, cause) {
		t.Errorf("%v does not match the cause", err)
	}
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	statuses := map[string]int{"/ok": 200, "/empty": 204, "/moved": 302, "/missing": 404, "/down": 503, "/odd": 599}
	var asked atomic.Int32
	for path, status := range statuses {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set("Location", "/down")
			w.WriteHeader(status)
			if status != 204 {
				_, _ = io.WriteString(w, "\r\n  warming\tup\x1b[31m \u202e\xff\r\nsecond line")
			}
		})
	}
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "me" || password != "secret" || r.UserAgent() != "huptime" || !r.Close ||
			r.Method != "GET" || r.URL.RawQuery != "a=b" {
			w.WriteHeader(500)
		}
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		_, _ = io.WriteString(w, strings.Repeat("\u00e9", 1000))
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	for _, c := range []struct {
		path, statuses string
		want           []string
	}{
		{"/ok", "", nil},
		{"/empty", "", nil},
		{"/moved", "", nil},
		{"/large", "", nil},
		{"/who?a=b", "", nil},
		{"/missing", "", []string{"answered 404 Not Found: warming up?[31m"}},
		{"/down", "", []string{"answered 503 Service Unavailable: warming up?[31m"}},
		{"/odd", "", []string{"answered 599: "}},
		{"/long", "", []string{"answered 500 Internal Server Error: \u00e9\u00e9"}},
		{"/down", "200,503", nil},
		{"/ok", "204", []string{"answered 200 OK"}},
	} {
		for scheme, serve := range map[string]func(http.Handler) *httptest.Server{
			"http": httptest.NewServer, "https": httptest.NewTLSServer,
		} {
			t.Run(scheme+c.path+c.statuses, func(t *testing.T) {
				server := serve(mux)
				defer server.Close()
				server.Config.ErrorLog = nil
				o := Options{Timeout: limit}
				if c.statuses != "" {
					o.Statuses, _ = ParseStatus(c.statuses)
				}
				url := strings.Replace(server.URL, "://", "://me:secret@", 1) + c.path
				asked.Store(0)
				err := parse(t, url).Try(t.Context(), o)
				expect(t, err, c.want...)
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the password is in the error: %v", err)
				}
				if n := asked.Load(); n > 1 {
					t.Errorf("it asked %d times", n)
				}
			})
		}
	}
}

// TestHTTPSWithHTTP2Only: some servers speak nothing else by TLS.
func TestHTTPSWithHTTP2Only(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(505)
		}
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{NextProtos: []string{"h2"}}
	server.StartTLS()
	defer server.Close()
	expect(t, parse(t, server.URL+"/").Try(t.Context(), Options{Timeout: limit}))
}

// TestConnectionIsClosed: who binds the source port needs it free when the attempt is over.
func TestConnectionIsClosed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for range 20 {
		var conns []net.Conn
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			if network != "tcp" {
				t.Errorf("network is %q", network)
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			conns = append(conns, conn)
			return conn, err
		}
		expect(t, parse(t, server.URL).Try(t.Context(), Options{Timeout: limit, Dial: dial}))
		if len(conns) != 1 {
			t.Fatalf("%d connections", len(conns))
		}
		if err := conns[0].SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("open after the attempt: %v", err)
		}
	}
}

// TestSourcePort dials as the stage does: from one port again and again, without lingering.
func TestSourcePort(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	plain, encrypted := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer encrypted.Close()
	_, port, err := net.SplitHostPort(unused(t))
	if err != nil {
		t.Fatal(err)
	}
	from, err := net.ResolveTCPAddr("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn, conn.(*net.TCPConn).SetLinger(0)
	}
	grpc := grpcServer(t, handler)
	for range 10 {
		for _, text := range []string{plain.URL, encrypted.URL, "grpc://" + grpc} {
			err := parse(t, text).Try(t.Context(), Options{Timeout: limit, Dial: dial})
			expect(t, err, "500 Internal Server Error")
		}
		tcp := "tcp" + strings.TrimPrefix(plain.URL, "http")
		expect(t, parse(t, tcp).Try(t.Context(), Options{Timeout: limit, Dial: dial}))
	}
}

func TestServersThatMisbehave(t *testing.T) {
	write := func(texts ...string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4<<10))
			for _, text := range texts {
				if _, err := io.WriteString(c, text); err != nil {
					return
				}
			}
		}
	}
	// forever repeats a text until nobody reads it; the copy in memory is the same all the time.
	forever := func(first, text string) func(net.Conn) {
		block := []byte(strings.Repeat(text, 64<<10/len(text)+1))
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4<<10))
			_, err := io.WriteString(c, first)
			for err == nil {
				_, err = c.Write(block)
			}
		}
	}
	hang := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4<<10))
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, c) // until the other side closes
		}
	}
	const (
		short   = 200 * time.Millisecond
		sized   = " x\r\nContent-Length: 10\r\n\r\nabc\n" // but shorter
		chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
		http200 = "HTTP/1.1 200"
		http503 = "HTTP/1.1 503"
	)
	const down = "answered 503 Service Unavailable"
	for _, c := range []struct {
		name    string
		serve   func(net.Conn)
		timeout time.Duration
		want    string // empty: it passes
	}{
		{"closes at once", func(net.Conn) {}, limit, ": "},
		{"closes after the request", write(), limit, "closed the connection without a complete answer"},
		{"other protocol", write("220 mail.example ESMTP\x07\r\n"), limit, "/health: malformed HTTP"},
		{"part of the headers", write(http200 + " OK\r\nContent-"), limit, ": "},
		{"part of the body", write(http200 + sized), limit, "answered 200 OK: its body broke off"},
		{"part of a failure", write(http503 + sized), limit, down + ": abc"},
		{"hangs", hang(""), short, "no answer within 200ms"},
		{"hangs in its headers", hang(http200 + " OK\r\n"), short, "no answer within 200ms"},
		{"hangs in its body", hang(http200 + sized), short, "answered 200 OK: its body did not end in time"},
		{"hangs in the body of a failure", hang(http503 + sized), short, down + ": abc"},
		{"endless line", forever("", "x"), limit, ": "},
		{"endless headers", forever(http200+" OK\r\n", "A: b\r\n"), limit, "header"},
		{"endless interim answers", forever("", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"), limit, ": "},
		{"endless body", forever(http200+" OK\r\n\r\n", "x"), limit, ""},
		{"endless body of a failure", forever(http503+" No\r\n\r\n", "x"), limit, down + ": xxx"},
		{"endless chunk header", forever(chunked+"\r\n", "0"), limit, "answered 200 OK"},
		{"endless trailers", forever(chunked+"Trailer: A\r\n\r\n0\r\n", "A: b\r\n"), limit, "answered 200 OK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := raw(t, c.serve)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun := time.Now()
			err := parse(t, "http://"+address+"/health").Try(t.Context(), Options{Timeout: c.timeout})
			took := time.Since(begun)
			runtime.ReadMemStats(&after)
			if c.want == "" {
				expect(t, err)
			} else {
				expect(t, err, c.want)
			}
			if took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes were allocated", got)
			}
		})
	}
}

// run runs commands as a process without a reaper of its own can.
func run(ctx context.Context, argv, env []string, dir string) ([]byte, string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = env, dir, time.Second
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return output, exit.String(), nil
	}
	return output, "", err
}

func TestExec(t *testing.T) {
	dir := t.TempDir()
	o := Options{Timeout: limit, Run: run, Env: []string{"HUPTIME_GENERATION=7"}, Dir: dir}
	for command, want := range map[string][]string{
		`exit 0`: nil,
		`test "$HUPTIME_GENERATION" = 7 && test "$(pwd -P)" = "$(cd ` + dir + ` && pwd -P)"`: nil,
		`exit 3`: {"exec:exit 3 exit status 3"},
		`echo first; echo "the\033 last" >&2; echo; exit 1`: {"exit status 1: the? last"},
		`kill -9 $$`: {"killed"},
	} {
		expect(t, parse(t, "exec:"+command).Try(t.Context(), o), want...)
	}
	expect(t, parse(t, "exec:true").Try(t.Context(), Options{}), "no way to run commands")
	o.Timeout = 100 * time.Millisecond
	expect(t, parse(t, "exec:exec sleep 60").Try(t.Context(), o), "exec:exec sleep 60: no answer within 100ms")
	o.Run = func(context.Context, []string, []string, string) ([]byte, string, error) { return nil, "", unix.EAGAIN }
	expect(t, parse(t, "exec:true").Try(t.Context(), o), "exec:true: cannot be run: resource temporarily unavailable")
}

func TestArgv(t *testing.T) {
	for _, c := range []struct {
		line  string
		shell bool
		want  string // joined by |
	}{
		{"a  b", true, "/bin/sh|-c|a  b"},
		{"a | b", true, "/bin/sh|-c|a | b"},
		{" a  b ", false, "a|b"},
		{"a | b", false, ""},
		{"a $B", false, ""},
		{" ", false, ""},
	} {
		argv, err := Argv(c.line, c.shell)
		if strings.Join(argv, "|") != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.line, argv, err, c.want)
		}
	}
}

func TestWhatIsNotTried(t *testing.T) {
	for _, text := range []string{"wait", "notify"} {
		expect(t, parse(t, text).Try(t.Context(), Options{}), "nothing can be tried")
	}
}
