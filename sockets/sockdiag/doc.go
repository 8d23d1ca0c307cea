// Package sockdiag asks the kernel which sockets there are, by NETLINK_SOCK_DIAG (sock_diag(7)): connections to ports and
// to names of unix sockets, the other ends of connections, what is in a queue. It sees the sockets of the network namespace
// of the process that has opened the [Conn], whoever has them; whose one is, its inode number tells.
//
// A Conn may be used by several goroutines; it has none of its own. It owns one netlink socket, and nothing else is state.
package sockdiag
