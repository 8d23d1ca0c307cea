package remote

import "github.com/huptime/huptime/internal/proc"

// Read copies memory of the process.
func (f *Frozen) Read(addr uint64, buf []byte) error { return proc.ReadMemory(f.pid, addr, buf) }

func (f *Frozen) write(addr uint64, buf []byte) error {
	return proc.WriteMemory(f.pid, addr, buf)
}

// WithSpace puts data into the memory of the process for as long as use runs: what fill makes
// of the address, size bytes at the most. It is a stretch of stack below what is in use; what was
// there comes back.
func (f *Frozen) WithSpace(size int, fill func(addr uint64) []byte, use func(addr uint64) error) error {
	if err := f.prepareCalls(); err != nil {
		return err
	}
	addr := f.calls.scratch - uint64(size+63)&^63
	data := fill(addr)
	before := make([]byte, len(data))
	if err := f.Read(addr, before); err != nil {
		return err
	}
	if err := f.write(addr, data); err != nil {
		return err
	}
	defer f.write(addr, before)
	return use(addr)
}
