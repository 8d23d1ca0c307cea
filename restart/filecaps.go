package restart

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/huptime/huptime/internal/permission"
	"github.com/huptime/huptime/notify"
)

// lostPrivileges warns of privileges that the service's file would give it (file capabilities, set-user-ID, set-group-ID), and that it does not get: without
// CAP_SYS_ADMIN the kernel demands no_new_privs of who installs a filter (seccomp(2)), which makes execve ignore them. Where the file is another at
// a later start nothing is said.
func lostPrivileges(cfg *Config) {
	own, err := permission.Of(os.Getpid())
	if err != nil || own.Caps&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return
	}
	file := notify.FileOf(cfg.Command[0])
	if strings.Contains(cfg.Command[0], "/") && !filepath.IsAbs(cfg.Command[0]) {
		file = filepath.Join(cfg.Dir, cfg.Command[0])
	}
	what := privilegesOf(file, own)
	if what == "" {
		return
	}
	cfg.Log.Warn("the service runs without the privileges of its file: huptime has no CAP_SYS_ADMIN", "file", file, "privileges", what,
		"advice", "start huptime with the capabilities that the service needs as ambient ones (AmbientCapabilities= in a systemd unit, setpriv --ambient-caps), or give huptime's own file those that it lacks (setcap cap_sys_admin,cap_sys_ptrace,cap_dac_read_search+ep)")
}

// privilegesOf says what executing a file would give, or "".
func privilegesOf(file string, own permission.Credentials) string {
	var b [64]byte
	if n, err := unix.Getxattr(file, "security.capability", b[:]); err == nil && n > 0 {
		return "file capabilities"
	}
	var st unix.Stat_t
	switch err := unix.Stat(file, &st); {
	case err != nil:
		return ""
	case st.Mode&unix.S_ISUID != 0 && st.Uid != own.Effective:
		return "set-user-ID"
	case st.Mode&unix.S_ISGID != 0 && st.Mode&unix.S_IXGRP != 0 && st.Gid != own.GID:
		return "set-group-ID"
	}
	return ""
}
