package notify

import "fmt"

// The layouts below are fixed by include/uapi/linux/seccomp.h.

// rawData is struct seccomp_data.
type rawData struct {
	Number             int32
	Arch               uint32
	InstructionPointer uint64
	Args               [6]uint64
}

// rawRequest is struct seccomp_notif, 80 bytes.
type rawRequest struct {
	ID    uint64
	PID   uint32 // a thread id
	Flags uint32
	Data  rawData
}

// rawReply is struct seccomp_notif_resp, 24 bytes.
type rawReply struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

// rawAddFD is struct seccomp_notif_addfd, 24 bytes.
type rawAddFD struct {
	ID         uint64
	Flags      uint32
	SrcFD      uint32
	NewFD      uint32
	NewFDFlags uint32
}

// rawSizes is struct seccomp_notif_sizes.
type rawSizes struct {
	Notif, Resp, Data uint16
}

// ioctl numbers that x/sys does not have (include/uapi/linux/seccomp.h).
const (
	ioctlIDValid  = 0x40082102
	ioctlAddFD    = 0x40182103
	ioctlSetFlags = 0x40082104
)

func (r rawRequest) String() string {
	return fmt.Sprintf("notification %d of thread %d: call %d of architecture %#x, arguments %#x",
		r.ID, r.PID, r.Data.Number, r.Data.Arch, r.Data.Args)
}

func (r rawReply) String() string {
	return fmt.Sprintf("reply to %d: value %d, error %d, flags %#x", r.ID, r.Val, r.Error, r.Flags)
}

func (a rawAddFD) String() string {
	return fmt.Sprintf("descriptor for %d: %d at %d, flags %#x and %#x", a.ID, a.SrcFD, a.NewFD, a.Flags, a.NewFDFlags)
}
