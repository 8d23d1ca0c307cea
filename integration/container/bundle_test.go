package container

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// dockerCapabilities are what Docker leaves root by default.
var dockerCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// bundle is a root file system and how to run it: what config.json says, as far as tests differ in it.
type bundle struct {
	t       testing.TB
	dir     string
	args    []string
	env     []string
	user    int // also the group
	caps    []string
	profile map[string]any // nil is none
	fixed   bool           // the root is read-only, and no new privileges
	own     bool           // a network namespace of its own; else the machine's
	tty     bool
	memory  int64 // limit in bytes, or 0
	sysctl  map[string]string
	mounts  []any
}

// scratch makes a bundle from nothing but the static binaries: FROM scratch. Root, Docker's default capabilities and profile.
func scratch(t testing.TB, args ...string) *bundle {
	t.Helper()
	b := &bundle{t: t, dir: t.TempDir(), caps: dockerCapabilities, profile: defaultProfile(), env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/"}}
	b.args = append([]string{"/huptime", "--log-format=json", "--debug", "--min-ready=20ms"}, args...)
	for _, dir := range []string{"proc", "dev", "sys", "etc", "run", "tmp"} {
		b.mkdir(dir)
	}
	for name, from := range map[string]string{"huptime": huptime, "goserver": goserver, "inside": inside} {
		b.copy(name, from)
	}
	return b
}

// withTree adds the machine's programs, read-only: a distribution's image.
func (b *bundle) withTree() *bundle {
	b.t.Helper()
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		to, err := os.Readlink("/" + dir)
		if err != nil || filepath.Join("/", to) != "/usr/"+dir {
			missing(b.t, fmt.Sprintf("/%s is no link into /usr (%v), which would be all that an image needs", dir, err))
		}
		if err := os.Symlink("usr/"+dir, b.path(dir)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.mkdir("usr")
	b.mounts = append(b.mounts, map[string]any{"destination": "/usr", "type": "bind", "source": "/usr", "options": []string{"rbind", "ro"}})
	b.write("etc/passwd", "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/false\n")
	b.write("etc/group", "root:x:0:\nwww-data:x:33:\n")
	return b
}

// restricted makes it what Kubernetes' restricted pods are: a user without capabilities or new privileges, and nothing that it could
// write to.
func (b *bundle) restricted() *bundle {
	b.user, b.caps, b.fixed = 1000, []string{}, true
	return b
}

func (b *bundle) path(name string) string { return filepath.Join(b.dir, "rootfs", name) }

func (b *bundle) mkdir(name string) {
	b.t.Helper()
	if err := os.MkdirAll(b.path(name), 0o755); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) copy(name, from string) {
	b.t.Helper()
	if err := os.Link(from, b.path(name)); err == nil {
		return
	}
	in, err := os.Open(from)
	if err != nil {
		b.t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(b.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		b.t.Fatal(err)
	}
}

// configure writes config.json (OCI runtime specification 1.0).
func (b *bundle) configure() {
	b.t.Helper()
	namespaces := []any{}
	for _, kind := range []string{"pid", "ipc", "uts", "mount"} {
		namespaces = append(namespaces, map[string]any{"type": kind})
	}
	if b.own {
		namespaces = append(namespaces, map[string]any{"type": "network"})
	}
	linux := map[string]any{
		"namespaces":    namespaces,
		"cgroupsPath":   "/" + b.id(),
		"maskedPaths":   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"},
		"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		"resources":     map[string]any{},
	}
	if b.profile != nil {
		linux["seccomp"] = b.profile
	}
	if b.sysctl != nil {
		linux["sysctl"] = b.sysctl
	}
	if b.memory != 0 {
		b.mounts = append(b.mounts, map[string]any{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
			map[string]any{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []string{"nosuid", "noexec", "nodev", "relatime", "ro"}})
		linux["resources"] = map[string]any{"memory": map[string]any{"limit": b.memory, "swap": b.memory}}
	}
	mount := func(kind, at string, options ...string) any {
		return map[string]any{"destination": at, "type": kind, "source": kind, "options": options}
	}
	mounts := []any{
		mount("proc", "/proc", "nosuid", "noexec", "nodev"),
		mount("tmpfs", "/dev", "nosuid", "mode=755", "size=65536k"),
		mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
	}
	process := map[string]any{
		"terminal":        b.tty,
		"user":            map[string]any{"uid": b.user, "gid": b.user},
		"args":            b.args,
		"env":             b.env,
		"cwd":             "/",
		"noNewPrivileges": b.fixed,
		"capabilities":    map[string]any{"bounding": b.caps, "effective": b.caps, "permitted": b.caps},
	}
	text, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.0",
		"process":    process,
		"root":       map[string]any{"path": "rootfs", "readonly": b.fixed},
		"mounts":     append(mounts, b.mounts...),
		"linux":      linux,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// id is the container's name, which no other has: the directory is the test's own.
func (b *bundle) id() string {
	return fmt.Sprintf("huptime-%d-%s-%s", os.Getpid(), filepath.Base(filepath.Dir(b.dir)), filepath.Base(b.dir))
}
