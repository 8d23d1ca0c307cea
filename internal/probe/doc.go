// Package probe asks a service whether it serves: what --ready names is parsed here and, where it can be asked, tried.
//
//	wait                          each listening socket is waited at; the caller sees that, nothing is tried here
//	notify                        READY=1 at NOTIFY_SOCKET; package sdnotify hears it, nothing is tried here
//	tcp://HOST:PORT               connects, and closes; tcp:HOST:PORT is the same
//	http://HOST:PORT/PATH         GET; 2xx or 3xx pass, or what [ParseStatus] was given
//	https://HOST:PORT/PATH        likewise
//	grpc://HOST:PORT[/SERVICE]    grpc.health.v1.Health/Check without TLS; SERVING passes
//	exec:COMMAND                  exit status 0 passes
//
// It decides nothing: how often a probe is tried, what a failed one means, and which generation answers it are the
// caller's. It knows nothing of generations, and starts no process: a second wait for children beside the supervisor's
// reaper would steal statuses and ptrace stops, so commands run by way of [Options.Run].
//
// # One attempt
//
// [Probe.Try] makes one connection, with [Options.Dial], and has closed it when it returns: who binds the probe to one
// source port can bind it again at once. Nothing is kept from one attempt to the next: no connection, no session, no
// cookie. There is no proxy, and a redirect is an answer, not a way to go.
//
// An answer is believed when it is complete. A body that breaks off is a failure, as its server may have died of it.
//
// # What a server can do to it
//
// It may hang: an attempt ends after [Options.Timeout], in the middle of a body as well. It may flood: headers,
// interim answers and HTTP/2 buffers are bounded by the transport (64 KiB each), and no more of a body is read than
// that. It may lie in its texts: what is quoted of them is one line of at most 200 bytes without control characters.
//
// # Certificates
//
// https does not verify the certificate. It asks the process that huptime has started, on this machine, where the
// certificate is that of a public name and the probe connects to 127.0.0.1: a check would fail for the honest
// service, and who could answer in its stead could as well replace its program. Nothing secret is sent, unless the URL
// itself holds a password. To verify, use exec: with a client that does.
//
// # Why net/http
//
// Since Go 1.24 its transport speaks HTTP/2 without TLS, so that one client serves http, https and grpc, with every
// bound set at one place; the message of the health check is two fields, written and read here. It needs no module.
package probe
