package probe

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// checkPath is the one method that is called: health.proto of grpc.health.v1.
const checkPath = "/grpc.health.v1.Health/Check"

// codes are the names of gRPC's status codes (grpc, doc/statuscodes.md).
var codes = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// tryGRPC makes one unary call, as gRPC's doc/PROTOCOL-HTTP2.md has it.
func (p Probe) tryGRPC(ctx context.Context, o Options) error {
	to := url.URL{Scheme: "http", Host: p.endpoint(), Path: checkPath}
	message := bytes.NewReader(healthRequest(p.service))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), message)
	if err != nil {
		return broken("", err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers") // some servers refuse a call without
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return p.exchange(request, &protocols, o, judgeHealth)
}

func judgeHealth(response *http.Response, body []byte, readErr error) error {
	switch {
	case response.StatusCode != http.StatusOK:
		return answered("HTTP status "+statusText(response.StatusCode), firstLine(body))
	case !strings.HasPrefix(response.Header.Get("Content-Type"), "application/grpc"):
		return answered("without gRPC", firstLine(body))
	case cutShort(readErr):
		return broken("", readErr)
	case readErr != nil:
		return broken("the answer broke off: ", readErr)
	case len(body) >= maxAnswer:
		return answered("too much for a health check", "")
	}
	// An answer that is an error has its status among the headers: there is nothing that trailers could trail.
	trailers := response.Trailer
	if trailers.Get("Grpc-Status") == "" {
		trailers = response.Header
	}
	status := trailers.Get("Grpc-Status")
	code, err := strconv.ParseUint(status, 10, 16)
	switch {
	case err != nil:
		return answered("without a gRPC status", "")
	case code != 0:
		name := fmt.Sprintf("gRPC status %d", code)
		if int(code) < len(codes) {
			name += " " + codes[code]
		}
		message, err := url.PathUnescape(trailers.Get("Grpc-Message"))
		if err != nil {
			message = trailers.Get("Grpc-Message")
		}
		return answered(name, firstLine([]byte(message)))
	}
	serving, err := parseHealth(body)
	switch {
	case err != nil:
		return answered("what is no health check's answer", err.Error())
	case serving != statusServing:
		return answered(serving.String(), "")
	}
	return nil
}
