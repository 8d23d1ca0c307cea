package remote

import "sync"

// freezing is held for reading from Freeze to Thaw. It is the one global of the package, because what it
// guards is the process's own list of children.
var freezing sync.RWMutex

// TryReap calls reap, which may wait for any child, unless something is frozen. It tells whether
// it did; if not, call it again a little later.
func TryReap(reap func()) bool {
	if !freezing.TryLock() {
		return false
	}
	defer freezing.Unlock()
	reap()
	return true
}
