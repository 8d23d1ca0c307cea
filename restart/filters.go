package restart

import (
	"github.com/huptime/huptime/notify"
	"github.com/huptime/huptime/sockets"
)

// asked is what the filter of a generation asks about beyond what all do.
type asked struct {
	rename  bool
	connect sockets.Connects
}

// program is the filter of a generation that may claim sockets of from. What it may have to be asked about must be known before it starts: a
// filter can't be changed afterwards.
func (s *supervisor) program(number int, from *sockets.Preserved) (notify.Program, error) {
	about := asked{len(s.cfg.Unlink) > 0 || from.HasPaths(), from.Refuses(number)}
	switch about {
	case asked{}:
		return s.plain, nil
	case asked{rename: true}:
		return s.full, nil
	}
	if p := s.programs[about]; p != nil {
		return p, nil
	}
	options := append(filterOptions(&s.cfg), notify.WithUnlink)
	if about.rename {
		options = append(options, notify.WithRename)
	}
	switch about.connect {
	case sockets.ConnectsUnix:
		options = append(options, notify.WithConnect)
	case sockets.ConnectsAll:
		options = append(options, notify.WithEveryConnect)
	}
	p, err := notify.BuildFilter(s.cfg.Level, options...)
	if err == nil {
		s.programs[about] = p
	}
	return p, err
}

// filterOptions are those of all generations.
func filterOptions(cfg *Config) []notify.FilterOption {
	if cfg.PassHangup {
		return []notify.FilterOption{notify.WithSIGHUP}
	}
	return nil
}
