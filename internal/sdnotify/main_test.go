package sdnotify

import (
	"os"
	"testing"

	"github.com/huptime/huptime/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
