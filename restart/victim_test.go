package restart

import (
	"os/exec"
	"strconv"
	"testing"
)

// The first to go, and back again; one that has chosen for itself is left alone.
func TestFirstToGo(t *testing.T) {
	t.Parallel()
	own, err := oomScore("self")
	if err != nil || own >= firstToGo-1 {
		t.Skipf("unsupported here: oom_score_adj is %d, %v", own, err)
	}
	var pids []int
	for range 2 {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		back, exposed := expose(cmd.Process.Pid)
		if !exposed || back != own {
			t.Fatalf("not exposed; the score to go back to is %d, want %d", back, own)
		}
		pids = append(pids, cmd.Process.Pid)
	}
	score := func(i int) int {
		t.Helper()
		n, err := oomScore(strconv.Itoa(pids[i]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if score(0) != firstToGo {
		t.Errorf("exposed: %d", score(0))
	}
	if err := setOOMScore(pids[1], firstToGo-1); err != nil {
		t.Fatal(err)
	}
	gone := 1 << 22 // above what the kernel gives (PID_MAX_LIMIT)
	if left := cover(func() []int { return append([]int{gone}, pids...) }, own); left != 0 {
		t.Errorf("%d were not covered", left)
	}
	if score(0) != own || score(1) != firstToGo-1 {
		t.Errorf("covered: %d, %d", score(0), score(1))
	}
	if _, exposed := expose(gone); exposed {
		t.Error("nobody was exposed")
	}
	if now, err := oomScore("self"); now != own || err != nil {
		t.Errorf("own score: %d, %v", now, err)
	}
}
