package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// shell runs a command. It is the one that POSIX has at this place.
const shell = "/bin/sh"

// Argv is how a command line is run: by the shell. Where there is none (an image from scratch), it is a program and its
// arguments, with blanks between them, and the error says that it needs more than that.
func Argv(line string, haveShell bool) ([]string, error) {
	if haveShell {
		return []string{shell, "-c", line}, nil
	}
	if strings.ContainsAny(line, "'\"`\\$&|;<>()*?[]{}~#!\n") {
		return nil, fmt.Errorf("it needs a shell, and there is no %s; write a program and its arguments only", shell)
	}
	argv := strings.Fields(line)
	if len(argv) == 0 {
		return nil, errors.New("it names no program")
	}
	return argv, nil
}

func (p Probe) tryExec(ctx context.Context, o Options) error {
	if o.Run == nil {
		return &failure{text: ": cannot be run: no way to run commands was given"}
	}
	argv, err := Argv(p.command, unix.Access(shell, unix.X_OK) == nil)
	if err != nil {
		return broken("cannot be run: ", err)
	}
	output, ended, err := o.Run(ctx, argv, o.Env, o.Dir)
	switch done := ctx.Err(); {
	case err == nil && ended == "":
		return nil
	case done != nil: // and so it was killed, which says nothing of the service
		return broken("", done)
	case err != nil:
		return broken("cannot be run: ", err)
	}
	text := " " + printable(ended)
	if last := lastLine(output); last != "" {
		text += ": " + last
	}
	return &failure{text: text}
}
