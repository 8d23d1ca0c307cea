package restart

import "errors"

// checking is the check that runs, as the machine knows it.
type checking struct {
	cancel func(why error)
}

var errCheckEnding = errors.New("was killed: huptime is ending")

// startCheck runs the check; replace follows if it passes. It is part of the restart, so what comes meanwhile waits.
func (m *machine) startCheck() {
	m.log.Debug("check begun", "command", m.cfg.Check)
	c := &checking{}
	m.checking = c
	cancel := m.host.check(func(output string, err error) {
		m.post(func() { m.checked(output, err) })
	})
	limit := m.cfg.ReadyTimeout
	timer := m.after(limit, func() {
		if m.checking == c {
			cancel(errors.New("was killed: it did not end within " + limit.String()))
		}
	})
	c.cancel = func(why error) {
		timer.Stop()
		cancel(why)
	}
}

// checked takes the outcome of the check.
func (m *machine) checked(output string, err error) {
	m.checking.cancel(nil) // it is over; this stops its timer
	m.checking = nil
	switch {
	case m.ending:
		return
	case err != nil:
		m.failed(m.highest+1, err.Error(), "output", output)
	case m.busy() != "":
		m.pending = true // something else has begun meanwhile; it is checked again after that
	default:
		m.log.Debug("check passed", "output", output)
		m.replace()
	}
	m.nextRestart()
}

// stopCheck kills a check that runs: huptime is ending.
func (m *machine) stopCheck() {
	if m.checking != nil {
		m.checking.cancel(errCheckEnding)
	}
}
