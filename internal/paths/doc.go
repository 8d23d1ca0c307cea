// Package paths finds out which place in the file systems another thread's path
// stands for: from that thread's root, working directory or directory
// descriptor, through "..", symbolic links and mounts, as the kernel would walk it
// for that thread. It follows no last component: the
// calls that remove and make names don't either.
//
// # Why the walk is done here
//
// openat2(2) with RESOLVE_IN_ROOT (Linux 5.6) takes one descriptor as the root and
// as the start, so a relative path with ".." above the working directory can't be put to it, and
// old container profiles deny it. A walk over descriptors opened with O_PATH crosses into another
// mount namespace by itself, because each step starts from a descriptor that
// is in there.
package paths
