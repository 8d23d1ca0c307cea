package restart

import (
	"fmt"
	"slices"

	"github.com/huptime/huptime/internal/activation"
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// takeStanding takes what huptime was handed by LISTEN_FDS and opens what it is to listen on itself. It returns the other descriptors
// that are meant for the service. The caller closes cfg.standing when the last generation is over.
func takeStanding(cfg *Config) (inherited []int, err error) {
	fds, names, err := activation.Take()
	if err != nil {
		return nil, err
	}
	if inherited, err = notify.Inherited(); err != nil {
		return nil, err
	}
	if last := 2 + len(fds) + len(cfg.Listen); cfg.PassFDs {
		if i := slices.IndexFunc(inherited, func(fd int) bool { return fd <= last }); i >= 0 {
			return nil, fmt.Errorf("descriptor %d is open for the service, and --pass-fds needs 3 to %d: close it, or open it with a greater number", inherited[i], last)
		}
	}
	given := make([]sockets.Given, len(fds))
	for i, fd := range fds {
		given[i] = sockets.Given{FD: fd, Name: names[i]}
	}
	cfg.standing, err = sockets.OpenStanding(given, cfg.Listen, cfg.OwnSockets, !cfg.PassFDs, cfg.Log)
	return inherited, err
}
