package container

import "strings"

// allowed are the system calls that the default profiles of Docker and containerd allow everybody, as far as this
// machine's ABI has them. What is not named fails with EPERM: pidfd_getfd, kcmp, io_uring_*, bpf, mount and so on.
const allowed = `
accept accept4 access adjtimex alarm arch_prctl bind brk capget capset chdir chmod chown chroot clock_adjtime clock_getres clock_gettime
clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait
epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod
fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex
futex_waitv futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area
gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
io_getevents io_setup io_submit ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier memfd_create mincore mkdir
mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep
newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl
pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recv recvfrom recvmmsg recvmsg removexattr rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop send
sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid
setreuid setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setxattr shmat shmctl shmdt shmget
shutdown sigaltstack signalfd signalfd4 socket socketpair splice stat statfs statx symlink symlinkat sync sync_file_range syncfs
sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
timerfd_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev`

// newNamespaces are the flags of clone(2) that make namespaces, which takes CAP_SYS_ADMIN anyway.
const newNamespaces = 0x7e020000

// defaultProfile is the seccomp profile of Docker and containerd for a container without CAP_SYS_ADMIN and without
// CAP_SYS_PTRACE, on a kernel from 4.8, which has ptrace allowed. Podman's differs in that it has pidfd_getfd.
func defaultProfile() map[string]any {
	const eperm, enosys = 1, 38
	return map[string]any{
		"defaultAction":   "SCMP_ACT_ERRNO",
		"defaultErrnoRet": eperm,
		"architectures":   architectures(),
		"syscalls": []any{
			map[string]any{"names": strings.Fields(allowed), "action": "SCMP_ACT_ALLOW"},
			map[string]any{"names": []string{"clone"}, "action": "SCMP_ACT_ALLOW",
				"args": []any{map[string]any{"index": 0, "value": newNamespaces, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}}},
			// The C library then falls back to clone.
			map[string]any{"names": []string{"clone3"}, "action": "SCMP_ACT_ERRNO", "errnoRet": enosys},
		},
	}
}

// withoutSeccomp is a profile under which huptime can't work: seccomp(2) fails with errno.
func withoutSeccomp(errno int) map[string]any {
	p := defaultProfile()
	rules := p["syscalls"].([]any)
	names := strings.Fields(strings.Replace(allowed, " seccomp ", " ", 1))
	rules[0] = map[string]any{"names": names, "action": "SCMP_ACT_ALLOW"}
	p["syscalls"] = append(rules, map[string]any{"names": []string{"seccomp"}, "action": "SCMP_ACT_ERRNO", "errnoRet": errno})
	return p
}
