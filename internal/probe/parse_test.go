package probe

import (
	"strings"
	"testing"
	"unicode"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text   string
		kind   Kind
		host   string
		port   uint16
		String string // if it is another one than text
	}{
		{text: "wait", kind: Wait},
		{text: "notify", kind: Notify},
		{text: "tcp://127.0.0.1:80", kind: TCP, host: "127.0.0.1", port: 80},
		{text: "tcp:127.0.0.1:80", kind: TCP, host: "127.0.0.1", port: 80, String: "tcp://127.0.0.1:80"},
		{text: "tcp://[::1]:65535", kind: TCP, host: "::1", port: 65535},
		{text: "tcp://[fe80::1%eth0]:1", kind: TCP, host: "fe80::1%eth0", port: 1},
		{text: "tcp://my_host.example:1", kind: TCP, host: "my_host.example", port: 1},
		{text: "http://localhost:8080/health?deep=1", kind: HTTP, host: "localhost", port: 8080},
		{text: "http://localhost:8080", kind: HTTP, host: "localhost", port: 8080},
		{text: "http://a:8080/b#c", kind: HTTP, host: "a", port: 8080, String: "http://a:8080/b"},
		{text: "https://[::1]:443/", kind: HTTPS, host: "::1", port: 443},
		{text: "https://[fe80::1%25eth0]:443/", kind: HTTPS, host: "fe80::1%eth0", port: 443},
		{text: "http://me:secret@a:80/", kind: HTTP, host: "a", port: 80, String: "http://me:xxxxx@a:80/"},
		{text: "grpc://127.0.0.1:50051", kind: GRPC, host: "127.0.0.1", port: 50051},
		{text: "grpc://127.0.0.1:50051/", kind: GRPC, host: "127.0.0.1", port: 50051, String: "grpc://127.0.0.1:50051"},
		{text: "grpc://127.0.0.1:50051/my.pkg.Service", kind: GRPC, host: "127.0.0.1", port: 50051},
		{text: "exec:pg_isready -h /tmp", kind: Exec},
		{text: "exec:true\nfalse", kind: Exec, String: "exec:true?false"},
	} {
		t.Run(c.text, func(t *testing.T) {
			p, err := Parse(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if c.String == "" {
				c.String = c.text
			}
			host, port, ok := p.Address()
			if p.Kind() != c.kind || host != c.host || port != c.port || ok != (c.port != 0) || p.String() != c.String {
				t.Errorf("got %v at %q port %d (%t), %q; want %v at %q port %d, %q",
					p.Kind(), host, port, ok, p, c.kind, c.host, c.port, c.String)
			}
			if p.Tried() != (c.kind != Wait && c.kind != Notify) {
				t.Errorf("Tried is %t", p.Tried())
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "unknown probe",
		"waits":                    "unknown probe",
		"wait:":                    "unknown probe",
		"udp://127.0.0.1:53":       "unknown probe",
		"HTTP://127.0.0.1:80/":     "unknown probe",
		"/health":                  "unknown probe",
		"127.0.0.1:80":             "unknown probe",
		"exec:":                    "no command",
		"exec: \n":                 "no command",
		"exec:a\x00b":              "NUL",
		"tcp:":                     "no host: write tcp://HOST:PORT",
		"tcp://127.0.0.1":          "no port: write tcp://HOST:PORT",
		"tcp://127.0.0.1:":         "number from 1 to 65535",
		"tcp://127.0.0.1:0":        "number from 1 to 65535",
		"tcp://127.0.0.1:65536":    "number from 1 to 65535",
		"tcp://127.0.0.1:+1":       "number from 1 to 65535",
		"tcp://127.0.0.1:http":     "number from 1 to 65535",
		"tcp://:80":                "127.0.0.1 for this machine",
		"tcp://127.0.0.1:80/path":  "takes no path",
		"tcp://::1:80":             "brackets",
		"tcp://[localhost]:80":     "no host",
		"tcp://[127.0.0.1]:80":     "no host",
		"tcp://a b:80":             "no host",
		"tcp://a\nb:80":            "no host",
		"http:127.0.0.1:80":        "no host: write http://HOST:PORT/PATH",
		"http://":                  "no host",
		"http:///health":           "no host",
		"http://127.0.0.1/health":  "no port: write http://HOST:PORT/PATH",
		"http://127.0.0.1:0/":      "number from 1 to 65535",
		"http://127.0.0.1:http/":   "write http://HOST:PORT/PATH",
		"http://127.0.0.1:80/%zz":  "escape",
		"http://127.0.0.1:80/\n":   "control character",
		"https://127.0.0.1":        "no port: write https://HOST:PORT/PATH",
		"grpc:127.0.0.1:80":        "no host",
		"grpc://127.0.0.1/Service": "no port: write grpc://HOST:PORT[/SERVICE]",
		"grpc://127.0.0.1:80/a b":  "named like",
		"grpc://127.0.0.1:80/a/b":  "named like",
	} {
		if p, err := Parse(text); err == nil {
			t.Errorf("%q is taken for %v", text, p)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q in it", text, err, want)
		}
	}
}

func TestErrorsKeepPasswords(t *testing.T) {
	for _, text := range []string{
		"http://me:secret@host/", "http://me:secret@host:0/", "http://me:secret@ho st:80/",
		"http://me:secret%zz@host:80/",
	} {
		if _, err := Parse(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// oneLine tells whether a text may go into a log as it is.
func oneLine(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"wait", "notify", "tcp://[::1]:80", "tcp:a:1", "http://a:b@c:80/d?e#f", "https://[fe80::1%25e]:1/",
		"grpc://a:1/b.C", "exec:true", "exec:\x1b[2J", "http://a:1/\u202e",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			if !oneLine(err.Error()) {
				t.Errorf("the error is not one line: %q", err)
			}
			return
		}
		if !oneLine(p.String()) {
			t.Errorf("not one line: %q", p)
		}
		if host, port, ok := p.Address(); ok && (host == "" || port == 0) {
			t.Errorf("an address without host or port: %q", p)
		}
		if _, _, connects := p.Address(); connects != (p.Tried() && p.Kind() != Exec) {
			t.Errorf("%v has an address: %t", p, connects)
		}
		// What it prints is what it is, but where that is cut or left out.
		if p.Kind() == Exec || len(p.String()) > maxQuoted-utf8Max || p.url != nil && p.url.User != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q is printed %q, which is %q, %v", text, p, again, err)
		}
	})
}

// utf8Max is the longest character: a text is cut before one that would not fit.
const utf8Max = 4

func TestStatuses(t *testing.T) {
	for text, want := range map[string]string{
		"200":               "200",
		"200,204,300-399":   "200,204,300-399",
		" 200 , 300 - 399 ": "200,300-399",
		"100-599":           "100-599",
		"204-204":           "204",
	} {
		s, err := ParseStatus(text)
		if err != nil || s.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, s, err, want)
		}
	}
	for _, text := range []string{
		"", ",", "200,", "2xx", "99", "600", "0200", "+20",
		"-20", "200-", "-200", "300-200", "200-300-400", "200;204", "2e2",
	} {
		if s, err := ParseStatus(text); err == nil {
			t.Errorf("%q is taken for %q", text, s)
		}
	}
	s, _ := ParseStatus("200,300-302")
	for status, want := range map[int]bool{199: false, 200: true, 201: false, 299: false, 300: true, 303: false} {
		if s.Has(status) != want {
			t.Errorf("%d: %t", status, s.Has(status))
		}
	}
	for status, want := range map[int]bool{101: false, 199: false, 200: true, 399: true, 400: false} {
		if (Statuses{}).Has(status) != want {
			t.Errorf("by default %d: %t", status, !want)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	for _, seed := range []string{"200", "200,204,300-399", "1-2", ",", "200-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseStatus(text)
		if err != nil {
			return
		}
		if again, err := ParseStatus(s.String()); err != nil || again.String() != s.String() {
			t.Errorf("%q is printed %q, which is %q, %v", text, s, again, err)
		}
		if s.Has(lowestStatus-1) || s.Has(highestStatus+1) {
			t.Errorf("%q has what is no status", text)
		}
	})
}
