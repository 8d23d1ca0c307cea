package restart

import (
	"os"
	"strconv"
	"strings"
)

// While a generation starts beside the one that serves, it is the one to go if memory runs out: whatever the kernel would take else
// (the largest process: the old one, when it has grown) is what clients depend on. A process may raise the score of its own user's processes
// and lower it again to what it was (oom_score_adj in proc_pid_oom_score_adj(5)), without a privilege.

// firstToGo is the highest score.
const firstToGo = 1000

// oomScore reads a process's adjustment.
func oomScore(pid string) (int, error) {
	b, err := os.ReadFile("/proc/" + pid + "/oom_score_adj")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func setOOMScore(pid, score int) error {
	// Without O_CREATE and O_TRUNC, which a file of /proc has no use for.
	f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(strconv.Itoa(score))
	return err
}

// expose makes the launcher, and the generation that descends from it, the first to go. It reports the score to go back to.
func expose(pid int) (back int, exposed bool) {
	back, err := oomScore("self")
	if err != nil || back >= firstToGo {
		return back, false
	}
	return back, setOOMScore(pid, firstToGo) == nil
}

// cover takes it back for all processes of a generation that has been promoted. Those that have chosen a score of their own meanwhile keep
// it. It returns how many could not be helped.
func cover(members func() []int, back int) (left int) {
	const looks = 5 // a process that forks between the look and the change has a child with the old score
	for range looks {
		found := false
		left = 0
		for _, pid := range members() {
			if score, err := oomScore(strconv.Itoa(pid)); err != nil || score != firstToGo {
				continue
			}
			found = true
			if err := setOOMScore(pid, back); err != nil && !os.IsNotExist(err) {
				left++
			}
		}
		if !found {
			break
		}
	}
	return left
}
