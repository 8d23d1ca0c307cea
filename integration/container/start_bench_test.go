package container

import (
	"io"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkStart is what an entrypoint adds to the start of a service: from its own start to the first byte that the service writes, against
// tini, dumb-init and nothing. They take turns, so that whatever else the machine does is the same for all. The figures are medians in milliseconds.
func BenchmarkStart(b *testing.B) {
	entrypoints := []struct {
		name    string
		command []string
	}{
		{"bare", nil},
		{"tini", []string{"tini", "-s", "--"}},
		{"dumb-init", []string{"dumb-init", "--"}},
		{"huptime", []string{huptime, "--"}},
	}
	for _, e := range entrypoints[1:] {
		if _, err := exec.LookPath(e.command[0]); err != nil {
			missing(b, err.Error()+": run make deps")
		}
	}
	times := make(map[string][]float64)
	for b.Loop() {
		for _, e := range entrypoints {
			took := toFirstByte(b, append(slices.Clone(e.command), inside, "hello"))
			times[e.name] = append(times[e.name], float64(took.Microseconds())/1000)
		}
	}
	median := make(map[string]float64)
	for name, list := range times {
		slices.Sort(list)
		median[name] = list[len(list)/2]
		b.ReportMetric(median[name], name+"-ms")
	}
	b.ReportMetric(median["huptime"]-median["bare"], "added-ms")
	b.ReportMetric(median["huptime"]/median["bare"], "x-bare")
	b.ReportMetric(median["huptime"]/median["tini"], "x-tini")
	b.ReportMetric(median["huptime"]/median["dumb-init"], "x-dumb-init")
	b.ReportMetric(0, "ns/op") // of all four together: no use
}

func toFirstByte(b *testing.B, command []string) time.Duration {
	b.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	took := time.Since(began)
	if errWait := cmd.Wait(); err != nil || errWait != nil {
		b.Fatal(command, err, errWait)
	}
	return took
}
