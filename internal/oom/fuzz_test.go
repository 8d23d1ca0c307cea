package oom

import (
	"path/filepath"
	"strings"
	"testing"
)

// mangled is a path as mountinfo has it (fs/proc_namespace.c, show_mountinfo).
var mangled = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`)

// Wherever this process's cgroup is mounted it is found, and no file is looked for that is not below a mount.
func FuzzCandidates(f *testing.F) {
	// A machine's own, a container's of version 1, and both.
	f.Add("0::/user.slice/user-0.slice/session-1.scope\n",
		"31 23 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
		"/sys/fs/cgroup", "/", "a")
	f.Add("5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/\n0::/\n",
		"35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "/a b", "/docker/ab", "c d")
	f.Add("0::/../x\n", "1 1 0:1 /.. /m - cgroup2 none rw\n- - -\n", "/\n", "/a/b", "..")
	f.Fuzz(func(t *testing.T, cgroup, mountinfo, mount, root, below string) {
		for _, file := range candidates(cgroup, mountinfo) {
			if name := filepath.Base(file); name != "memory.events" && name != "memory.oom_control" {
				t.Fatalf("%q of %q in %q", file, cgroup, mountinfo)
			}
		}
		mount, root = filepath.Clean("/"+mount), filepath.Clean("/"+root)
		if strings.ContainsRune(mount+root+below, 0) || strings.Contains(root+below, "\n") {
			return // a path has no NUL, a cgroup no newline (cgroup_mkdir)
		}
		own := strings.TrimSuffix(root, "/") + "/" + below
		for _, version := range []struct{ cgroup, kind, file string }{
			{"0::", "cgroup2 cgroup2 rw", "memory.events"},
			{"4:hugetlb,memory:", "cgroup cgroup rw,hugetlb,memory", "memory.oom_control"},
		} {
			line := "35 31 0:32 " + mangled.Replace(root) + " " + mangled.Replace(mount) +
				" ro,relatime shared:7 - " + version.kind + "\n"
			files := candidates(version.cgroup+own+"\n", line)
			if len(files) == 0 || len(files) > 2 || files[len(files)-1] != filepath.Join(mount, version.file) {
				t.Fatalf("%q in %q: %q", own, line, files)
			}
			for _, file := range files {
				if rest, ok := strings.CutPrefix(file, strings.TrimSuffix(mount, "/")+"/"); !ok || !filepath.IsLocal(rest) {
					t.Fatalf("%q in %q: %q", own, line, file)
				}
			}
			if filepath.IsLocal(below) && filepath.Clean(below) == below &&
				files[0] != filepath.Join(mount, below, version.file) {
				t.Fatalf("%q in %q: %q", own, line, files)
			}
		}
	})
}
