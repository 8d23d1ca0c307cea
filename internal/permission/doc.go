// Package permission tells what the kernel would permit a thread: to bind a port, to remove a name from a directory, to
// make one in it.
//
// The supervisor answers some calls of a service in the kernel's stead, and mostly has more privilege than who made them. It must not
// say yes where the kernel would have said no. It can't ask the kernel in the caller's name: the caller waits in its call, and a
// thread of the supervisor's that took the caller's ids would make the whole process undumpable (commit_creds in kernel/cred.c).
//
// What is done here is what fs/namei.c, fs/posix_acl.c and security/commoncap.c do. Not known here are security modules, file systems
// with rules of their own (NFS, FUSE), and idmapped mounts.
package permission
