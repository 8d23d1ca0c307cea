package remote

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/huptime/huptime/internal/abi"
)

// findInstruction looks for a system call instruction of the ABI: in the vdso, which every process has mapped (vdso(7)) unless the
// kernel was told otherwise (vdso32=0), else in the program's own code. Whatever is around it does not
// matter: it is all that is run.
func (f *Frozen) findInstruction(code abi.ABI) (uint64, error) {
	if at, ok := f.searchVDSO(code); ok {
		return at, nil
	}
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(f.pid) + "/maps")
	if err != nil {
		return 0, err
	}
	var others []extent
	for line := range bytes.Lines(maps) {
		m, ok := mapping(line)
		if !ok || !m.executable {
			continue
		}
		if !m.vdso {
			others = append(others, m)
		} else if at, ok := f.searchMapping(m, code); ok {
			return at, nil
		}
	}
	for _, m := range others {
		if at, ok := f.searchMapping(m, code); ok {
			return at, nil
		}
	}
	return 0, fmt.Errorf("%w: process %d has no system call instruction of %s", ErrForeign, f.pid, code)
}

// searchVDSO looks where the auxiliary vector says that the vdso is (AT_SYSINFO_EHDR in getauxval(3)): a list of all mappings takes the
// kernel ten times as long.
func (f *Frozen) searchVDSO(code abi.ABI) (uint64, bool) {
	const page = 4 << 10
	at, ok := f.vdso(code)
	if !ok {
		return 0, false
	}
	image := make([]byte, page)
	for i := range uint64(2) { // as long as it is at the least, and mapped as a whole
		from := at + i*page
		if f.Read(from, image) != nil || i == 0 && !bytes.HasPrefix(image, []byte("\x7fELF")) {
			return 0, false // it was moved
		}
		if k := findInstruction(code, image); k >= 0 {
			return from + uint64(k), true
		}
	}
	return 0, false
}

// vdso reads /proc/PID/auxv (proc_pid_auxv(5)), which has two words of the program's own size for each entry.
func (f *Frozen) vdso(code abi.ABI) (uint64, bool) {
	auxv, err := os.ReadFile("/proc/" + strconv.Itoa(f.pid) + "/auxv")
	if err != nil {
		return 0, false
	}
	return vdsoIn(code.Words(auxv))
}

func vdsoIn(words []uint64) (uint64, bool) {
	const sysinfoEHDR = 33
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == sysinfoEHDR {
			return words[i+1], words[i+1] != 0
		}
	}
	return 0, false
}

// searchMapping reads a mapping piece by piece. What can't be read ([vsyscall], device memory) has none.
func (f *Frozen) searchMapping(m extent, code abi.ABI) (uint64, bool) {
	const (
		piece = 64 << 10
		most  = 16 << 20 // of one mapping; a program that calls the kernel at all does so before that
	)
	buf := make([]byte, piece)
	for from := m.from; from < m.to && from-m.from < most; from += piece {
		part := buf[:min(piece, m.to-from)]
		if err := f.Read(from, part); err != nil {
			return 0, false
		}
		if i := findInstruction(code, part); i >= 0 {
			return from + uint64(i), true
		}
	}
	return 0, false
}

// extent is a line of /proc/PID/maps (proc_pid_maps(5)).
type extent struct {
	from, to         uint64
	executable, vdso bool
}

func mapping(line []byte) (extent, bool) {
	fields := bytes.Fields(line)
	if len(fields) < 5 {
		return extent{}, false
	}
	from, to, _ := bytes.Cut(fields[0], []byte("-"))
	start, err1 := strconv.ParseUint(string(from), 16, 64)
	end, err2 := strconv.ParseUint(string(to), 16, 64)
	return extent{
		from: start, to: end,
		executable: bytes.IndexByte(fields[1], 'x') >= 0,
		vdso:       len(fields) == 6 && string(fields[5]) == "[vdso]",
	}, err1 == nil && err2 == nil && start < end
}
