// Package oom tells how often the kernel's out-of-memory killer has struck in this process's memory cgroup, which in a
// container is the container's, or else on the machine. It knows nothing of services.
//
// Sources: oom_kill in memory.events of cgroup version 2 (Documentation/admin-guide/cgroup-v2.rst of the kernel; Linux 4.13), in
// memory.oom_control of version 1 (the same), and in /proc/vmstat (the same), which counts all kills of the machine.
package oom

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Counter is where the count is read.
type Counter struct {
	file string
	// Own tells that the count is of this process's memory cgroup, and not of the whole machine.
	Own bool
}

// Find looks for the counter. It is not ok where there is none.
func Find() (c Counter, ok bool) { return find("/proc") }

func find(proc string) (Counter, bool) {
	cgroup, _ := os.ReadFile(filepath.Join(proc, "self/cgroup"))
	mounts, _ := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
	for _, file := range candidates(string(cgroup), string(mounts)) {
		if c := (Counter{file, true}); c.works() {
			return c, true
		}
	}
	c := Counter{file: filepath.Join(proc, "vmstat")}
	return c, c.works()
}

func (c Counter) works() bool {
	_, err := c.Kills()
	return err == nil
}

var errNoCount = errors.New("no count of out-of-memory kills")

// Kills reads the count. It only grows.
func (c Counter) Kills() (uint64, error) {
	b, err := os.ReadFile(c.file)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if value, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, errNoCount
}

// candidates lists where the count may be: version 1 first, because a machine that has both has the memory controller there.
func candidates(cgroup, mountinfo string) (files []string) {
	var v1, v2 string // this process's cgroups, from the root of their hierarchies
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(parts) != 3:
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			v1 = parts[2]
		case parts[0] == "0":
			v2 = parts[2]
		}
	}
	var later []string
	for line := range strings.Lines(mountinfo) {
		// One blank between two fields, of which a name may be empty (proc_pid_mountinfo(5)). Other white space is part of a
		// name.
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		fields, kind := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		root, at := plain.Replace(fields[3]), plain.Replace(fields[4])
		switch {
		case kind[0] == "cgroup" && v1 != "" && slices.Contains(strings.Split(kind[2], ","), "memory"):
			files = append(files, within(at, root, v1, "memory.oom_control")...)
		case kind[0] == "cgroup2" && v2 != "":
			later = append(later, within(at, root, v2, "memory.events")...)
		}
	}
	return append(files, later...)
}

// plain takes back what the kernel does to names in mountinfo (show_mountinfo in fs/proc_namespace.c).
var plain = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")

// within lists where a file of the cgroup can be, seen through a mount of the part of the hierarchy that begins at root. Engines mount
// a container's own cgroup alone, under whatever name.
func within(mount, root, cgroup, file string) []string {
	files := []string{filepath.Join(mount, file)}
	rest, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(root, "/"))
	// A cgroup outside of this process's cgroup namespace begins with "/..": it is not below the mount.
	if ok && (rest == "" || rest[0] == '/' && filepath.IsLocal("."+rest)) {
		files = slices.Insert(files, 0, filepath.Join(mount, rest, file))
	}
	return slices.Compact(files)
}
