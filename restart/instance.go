package restart

// foundAnother says what may be behind a start that ended by itself before it bound any address of its predecessor's: services that find another
// instance of theirs end so. That they connect to their own address can be answered (connect in package sockets); of a pid file or a lock nothing can
// be seen.
func (m *machine) foundAnother(g *generation) {
	if g.from == nil || len(g.from.Sockets()) == 0 || len(g.from.Claimed()) > 0 || g.killed || m.ending || g.process == nil || g.process.Obstacle() != "" {
		return
	}
	advice := "name its pid file by --unlink; where it locks a file, or connects to its port, use --exec"
	if m.gap != nil {
		advice = "name its pid file by --unlink"
	}
	m.log.Info("the new generation ended before it bound anything; it may have taken its predecessor for another instance of itself",
		"generation", g.number, "advice", advice)
}
