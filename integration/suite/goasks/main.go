// Command goasks asks a service's /health as a command of a probe: ADDRESS FILE. It is static, and made for several
// machines. FILE gets what asks.py writes there.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
)

func main() {
	if len(os.Args) < 3 {
		return // it runs here
	}
	if err := ask(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(address, file string) error {
	r, err := http.Get("http://" + address + "/health")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	pid := regexp.MustCompile(`pid=(\d+)`).FindSubmatch(body)
	if pid == nil {
		return fmt.Errorf("it answers %q", body)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, os.Getenv("HUPTIME_GENERATION"), r.StatusCode, string(pid[1])); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", r.Status)
	}
	return nil
}
