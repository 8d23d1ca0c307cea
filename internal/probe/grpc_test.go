package probe

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// grpcServer answers health checks by hand, without TLS.
func grpcServer(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// reply sends a message and a status, as a server of gRPC does.
func reply(status string, message []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = w.Write(message)
		if status != "" {
			w.Header().Set("Grpc-Status", status)
		}
		w.Header().Set("Grpc-Message", "over%20there%07%0aagain")
	}
}

func TestGRPC(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   []string
	}{
		{"serving", reply("0", frame(8, 1)), nil},
		{"not serving", reply("0", frame(8, 2)), []string{"answered NOT_SERVING"}},
		{"unknown", reply("0", frame()), []string{"answered UNKNOWN"}},
		{"no message", reply("0", nil), []string{"no health check's answer"}},
		{"no status", reply("", frame(8, 1)), []string{"without a gRPC status"}},
		{"no such service", reply("5", nil), []string{"answered gRPC status 5 NOT_FOUND: over there"}},
		{"unknown status", reply("77", nil), []string{"answered gRPC status 77: over there"}},
		{"trailers only", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "12")
			w.Header().Set("Grpc-Message", "unknown service")
		}, []string{"answered gRPC status 12 UNIMPLEMENTED: unknown service"}},
		{"no gRPC", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "hello")
		}, []string{"without gRPC: hello"}},
		{"not found", http.NotFound, []string{"HTTP status 404 Not Found"}},
		{"too much", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = w.Write(make([]byte, 1<<20))
		}, []string{"too much"}},
		{"breaks off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = w.Write(frame(8, 1)[:3])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, []string{"broke off"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []byte
			var asked *http.Request
			address := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
				asked = r
				got, _ = io.ReadAll(r.Body)
				c.answer(w, r)
			})
			expect(t, parse(t, "grpc://"+address+"/my.Service").Try(t.Context(), Options{Timeout: limit}), c.want...)
			if !bytes.Equal(got, healthRequest("my.Service")) {
				t.Errorf("the message was % x", got)
			}
			if asked.Method != "POST" || asked.URL.Path != checkPath || asked.Header.Get("Te") != "trailers" ||
				asked.Header.Get("Content-Type") != "application/grpc" || asked.Host != address {
				t.Errorf("the request was %s %s at %s, %v", asked.Method, asked.URL.Path, asked.Host, asked.Header)
			}
		})
	}
}

func TestGRPCFromOtherServers(t *testing.T) {
	http1 := httptest.NewServer(http.NotFoundHandler())
	defer http1.Close()
	expect(t, parse(t, strings.Replace(http1.URL, "http", "grpc", 1)).Try(t.Context(), Options{Timeout: limit}), ": ")
	silent := raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	err := parse(t, "grpc://"+silent).Try(t.Context(), Options{Timeout: 200 * time.Millisecond})
	expect(t, err, "no answer within 200ms")
	err = parse(t, "grpc://"+unused(t)).Try(t.Context(), Options{Timeout: limit})
	expect(t, err, "cannot connect: connection refused")
}
