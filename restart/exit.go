package restart

import "github.com/huptime/huptime/internal/proc"

// Exit statuses of huptime's own. All others are the service's.
const (
	ExitFailure       = 125 // huptime itself failed, or was used wrongly
	ExitNotExecutable = 126 // the command can't be executed
	ExitNotFound      = 127 // the command was not found
)

// Status is how a process ended.
type Status = proc.Status
