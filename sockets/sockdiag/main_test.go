package sockdiag

import (
	"os"
	"testing"

	"github.com/huptime/huptime/internal/leak"
)

// TestMain fails where a descriptor or a goroutine is left.
func TestMain(m *testing.M) {
	before := leak.Start()
	os.Exit(leak.Status(m.Run(), before))
}
