package oom

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cgroup, mounts string
		want           []string
	}{
		"version 2, container with a cgroup namespace": {"0::/\n",
			"31 23 0:28 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n",
			[]string{"/sys/fs/cgroup/memory.events"}},
		"version 2, a service of systemd's": {"0::/system.slice/x.service\n",
			"31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/system.slice/x.service/memory.events", "/sys/fs/cgroup/memory.events"}},
		"version 1, container": {"5:cpu:/docker/ab\n4:memory:/docker/ab\n",
			"35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n36 31 0:33 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
			[]string{"/sys/fs/cgroup/memory/memory.oom_control"}},
		"both": {"4:memory,hugetlb:/a\n0::/b\n",
			"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n35 31 0:32 / /m rw - cgroup cgroup rw,memory,hugetlb\n",
			[]string{"/m/a/memory.oom_control", "/m/memory.oom_control", "/sys/fs/cgroup/unified/b/memory.events", "/sys/fs/cgroup/unified/memory.events"}},
		"another's": {"4:memory:/ab\n", "35 31 0:32 /a /m rw - cgroup cgroup rw,memory\n", []string{"/m/memory.oom_control"}},
		"a mount whose name has a blank, and a source without a name": {"0::/a b\n",
			"31 23 0:28 / /m\\040n\u00a0o rw - cgroup2  rw\n",
			[]string{"/m n\u00a0o/a b/memory.events", "/m n\u00a0o/memory.events"}},
		"a cgroup outside of the namespace": {"0::/../b\n",
			"31 23 0:28 / /m rw - cgroup2 cgroup2 rw\n", []string{"/m/memory.events"}},
		"nothing":  {"", "", nil},
		"nonsense": {"x\n:\n", "a b c\n - \n", nil},
	} {
		if got := candidates(test.cgroup, test.mounts); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if c, ok := find(dir); ok {
		t.Errorf("nothing is there: %+v", c)
	}
	write("vmstat", "nr_free_pages 7\noom_kill 3\n")
	c, ok := find(dir)
	if n, err := c.Kills(); !ok || c.Own || n != 3 || err != nil {
		t.Errorf("machine: %+v, %d, %v", c, n, err)
	}
	write("self/cgroup", "0::/x\n")
	write("self/mountinfo", "31 23 0:28 / "+dir+"/cg rw - cgroup2 cgroup2 rw\n")
	write("cg/x/memory.events", "low 0\noom 9\noom_kill 5\noom_group_kill 1\n")
	c, ok = find(dir)
	if n, err := c.Kills(); !ok || !c.Own || n != 5 || err != nil {
		t.Errorf("cgroup: %+v, %d, %v", c, n, err)
	}
	write("cg/x/memory.events", "low 0\n")
	if _, err := c.Kills(); err == nil {
		t.Error("a count where there is none")
	}
}
