package sdnotify

import (
	"os"
	"testing"

	"huptime/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
