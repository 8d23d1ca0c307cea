package restart

// foundAnother is what to say of a start that ended by itself before it bound any address of its predecessor's: services that find another
// instance of theirs end so. That they connect to their own address can be answered (sockets.Tracker, connect); of a pid file or a lock nothing can be
// seen. "" where that is not what it was.
func (m *machine) foundAnother(g *generation) string {
	if g.from == nil || len(g.from.Sockets()) == 0 || len(g.from.Claimed()) > 0 || g.killed || g.process == nil || g.process.Obstacle() != "" {
		return ""
	}
	const ended = "; it ended before it bound anything: if it takes its predecessor for another instance of itself, "
	if m.gap != nil {
		return ended + "by a pid file that is left, name that file by --unlink"
	}
	return ended + "name its pid file by --unlink, or where it locks a file, or connects to its port, use --exec"
}
