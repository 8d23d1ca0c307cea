// Package sockaddr has the addresses of sockets as the kernel takes and tells them (bind(2), getsockname(2)), and keys:
// all of what a socket stands for, so that two binds with equal keys ask for the same thing. It parses the bytes that a
// service passes to bind, builds what the supervisor passes itself, and tells whether two keys overlap.
//
// It has no state and no goroutines, and owns no descriptor.
package sockaddr
