package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Whatever a service answers is a success or one short line, at once; and a success only where it says so.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 503 \x1b[2J\r\nContent-Type: text/plain\r\n\r\n\nwarming up\r\n\u202e"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n" +
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 301 Moved\r\nLocation: http://elsewhere/\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"))
	f.Add([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
	f.Add([]byte{})
	p, err := Parse("http://127.0.0.1:8080/health")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) > 2*maxAnswer {
			return
		}
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() { // ends when the client is closed
			defer close(done)
			_, _ = http.ReadRequest(bufio.NewReader(server))
			_, _ = server.Write(answer)
			server.Close()
		}()
		dial := func(context.Context, string, string) (net.Conn, error) { return client, nil }
		err := p.Try(t.Context(), Options{Timeout: limit, Dial: dial})
		<-done
		if err != nil {
			if text := err.Error(); !oneLine(text) || len(text) > 3*maxQuoted || strings.Contains(text, "no answer within") {
				t.Fatalf("%q: %q", answer, text)
			}
			return
		}
		ok := false
		for line := range bytes.SplitSeq(answer, []byte("\n")) {
			fields := strings.Fields(string(line))
			ok = ok || len(fields) > 1 && strings.HasPrefix(fields[0], "HTTP/") &&
				len(fields[1]) == 3 && fields[1] >= "200" && fields[1] < "400"
		}
		if !ok {
			t.Fatalf("%q is a success", answer)
		}
	})
}

// Whatever a service says of its health is a success or one short line; and what it says is quoted as one that prints.
func FuzzJudgeHealth(f *testing.F) {
	f.Add(uint16(200), "application/grpc", "0", "", frame(8, 1), true)
	f.Add(uint16(200), "application/grpc+proto", "14", "warming%20up\x00%0a", []byte{}, false)
	f.Add(uint16(502), "text/html", "", "", []byte("\r\n \u202e<html>\nBad Gateway"), false)
	f.Add(uint16(200), "application/grpc", "65536", "%", frame(8, 2), true)
	f.Add(uint16(200), "application/grpc", "99", "\xff%ff", frame(8, 2), true)
	f.Fuzz(func(t *testing.T, status uint16, kind, code, message string, body []byte, trailing bool) {
		fields := http.Header{"Grpc-Status": {code}, "Grpc-Message": {message}}
		r := &http.Response{StatusCode: int(status), Header: http.Header{"Content-Type": {kind}}, Trailer: fields}
		if !trailing {
			fields["Content-Type"], r.Header, r.Trailer = []string{kind}, fields, nil
		}
		err := judgeHealth(r, body, nil)
		n, errCode := strconv.Atoi(code)
		serving, errBody := parseHealth(body)
		good := status == 200 && strings.HasPrefix(kind, "application/grpc") && errCode == nil && n == 0 &&
			errBody == nil && serving == statusServing
		if (err == nil) != good && len(body) < maxAnswer && !strings.ContainsAny(code, "+-") {
			t.Fatalf("%d %q %q %x: %v", status, kind, code, body, err)
		}
		if err != nil && (!oneLine(err.Error()) || len(err.Error()) > 2*maxQuoted) {
			t.Fatalf("%q", err)
		}
		if err := judgeHealth(r, body, io.ErrUnexpectedEOF); err == nil {
			t.Fatal("a success that broke off")
		}
		for _, quoted := range []string{firstLine(body), lastLine(body), reason(errors.New(string(body)))} {
			if !oneLine(quoted) || len(quoted) > maxQuoted {
				t.Fatalf("%q of %q", quoted, body)
			}
		}
	})
}
