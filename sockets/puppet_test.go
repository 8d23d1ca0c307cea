package sockets

import (
	"testing"

	"github.com/huptime/huptime/internal/puppets"
)

// puppet is one that makes sockets, see generation_test.go.
type puppet struct{ *puppets.Puppet }

// newPuppet takes ownership of control as puppets.New does.
func newPuppet(t *testing.T, pid, control int) *puppet {
	return &puppet{puppets.New(t, pid, control)}
}
