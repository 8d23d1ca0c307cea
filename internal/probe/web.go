package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
)

// maxAnswer bounds, each for itself, the headers, the body and the receive buffers of one answer, in bytes.
const maxAnswer = 64 << 10

// userAgent is what services' logs show.
const userAgent = "huptime"

func (p Probe) tryHTTP(ctx context.Context, o Options) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.String(), nil)
	if err != nil {
		return broken("", err)
	}
	if user := p.url.User; user != nil {
		password, _ := user.Password()
		request.SetBasicAuth(user.Username(), password)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // by TLS only: some servers speak nothing else there
	return p.exchange(request, &protocols, o, func(response *http.Response, body []byte, readErr error) error {
		status := statusText(response.StatusCode)
		switch {
		case !o.Statuses.Has(response.StatusCode):
			return answered(status, firstLine(body))
		case cutShort(readErr):
			return answered(status, "its body did not end in time")
		case readErr != nil:
			return answered(status, "its body broke off: "+reason(readErr))
		}
		return nil
	})
}

// statusText is a status in words that no server chooses.
func statusText(status int) string {
	number := strconv.Itoa(status)
	if text := http.StatusText(status); text != "" {
		return number + " " + text
	}
	return number
}

// exchange sends a request on a connection of its own, closed when it returns, and lets judge say what the answer
// means. The body has at most maxAnswer bytes; readErr says why it ended before its end, and is nil where it was only
// too long.
func (p Probe) exchange(request *http.Request, protocols *http.Protocols, o Options,
	judge func(response *http.Response, body []byte, readErr error) error) error {
	request.Header.Set("User-Agent", userAgent)
	conn, err := p.dial(request.Context(), o)
	if err != nil {
		return err
	}
	// The transport closes it as well, but some time later and on a goroutine of its own.
	defer conn.Close()
	transport := newTransport(conn, protocols)
	defer transport.CloseIdleConnections()
	// Not a client's Do: it would follow redirects.
	response, err := transport.RoundTrip(request)
	if err != nil {
		if done := request.Context().Err(); done != nil {
			err = done
		}
		return broken("", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return judge(response, body, err)
}

// newTransport makes a transport that has this one connection, and bounds what a server can make it hold.
func newTransport(conn net.Conn, protocols *http.Protocols) *http.Transport {
	var used atomic.Bool
	return &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errors.New("it refused the request on the first connection")
			}
			return conn, nil
		},
		// See doc.go, "Certificates".
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		Protocols:              protocols,
		DisableKeepAlives:      true,
		DisableCompression:     true, // 64 KiB shall be 64 KiB
		MaxResponseHeaderBytes: maxAnswer,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: maxAnswer,
			MaxReceiveBufferPerStream:     maxAnswer,
		},
	}
}
