package envfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSize bounds a file, in bytes. The kernel takes about 2 MiB of arguments and
// environment together (execve(2)), so more is some other file by mistake.
const maxSize = 1 << 20

// Read reads a file of variables. It waits for nobody: anything but a regular
// file is refused.
func Read(path string) ([]Variable, error) {
	text, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("cannot use the environment file %s: %w", path, err)
	}
	list, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use the environment file %s: %w", path, err)
	}
	return list, nil
}

func read(path string) ([]byte, error) {
	// O_NONBLOCK: to open a FIFO would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err // the path is said above
		}
		return nil, fmt.Errorf("%w; check its name and that it may be read", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is no regular file; name one, because it is read anew at each start")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("it has more than %d bytes; name a file of lines KEY=VALUE", maxSize)
	}
	return text, nil
}

// Merge returns an environment with the variables in it: each replaces those of
// its name. It leaves environ as it was.
func Merge(environ []string, list []Variable) []string {
	set := make(map[string]bool, len(list))
	for _, v := range list {
		set[v.Key] = true
	}
	merged := make([]string, 0, len(environ)+len(list))
	for _, entry := range environ {
		if key, _, _ := strings.Cut(entry, "="); !set[key] {
			merged = append(merged, entry)
		}
	}
	for _, v := range list {
		merged = append(merged, v.Key+"="+v.Value)
	}
	return merged
}
