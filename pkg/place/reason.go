package place

import (
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Code is a stable, machine-readable word for why a server cannot take a VM.
type Code string

// The codes of a refusal.
const (
	// CodeLost: it is not a live member.
	CodeLost Code = "LOST"
	// CodeFenced: it is not a live member, and proven harmless.
	CodeFenced Code = "FENCED"
	// CodeMaintenance: it is in maintenance.
	CodeMaintenance Code = "MAINTENANCE"
	// CodeInboundLock: it accepts no new VM.
	CodeInboundLock Code = "INBOUND_LOCK"
	// CodeRemoving: it is being taken out of the pool.
	CodeRemoving Code = "REMOVING"
	// CodeShuttingDown: it is shutting down.
	CodeShuttingDown Code = "SHUTTING_DOWN"
	// CodeVersion: its agent is too old.
	CodeVersion Code = "VERSION"
	// CodeMemory: not enough memory is free.
	CodeMemory Code = "MEMORY"
	// CodeLacks: something that the VM needs is missing there.
	CodeLacks Code = "LACKS"
	// CodeHostDevice: a host device that the VM needs is not there.
	CodeHostDevice Code = "HOST_DEVICE"
	// CodeStorageLost: it has lost its path to the shared storage.
	CodeStorageLost Code = "STORAGE_LOST"
	// CodeRequire: it is not among the servers that the VM may run on.
	CodeRequire Code = "REQUIRE"
	// CodeApart: a VM of the same apart group is there.
	CodeApart Code = "APART"
	// CodeTogether: the VMs of the same together group are elsewhere.
	CodeTogether Code = "TOGETHER"
	// CodeExhausted: the VM failed there too often.
	CodeExhausted Code = "EXHAUSTED"
	// CodeOnly: the VM must stay on another server.
	CodeOnly Code = "ONLY"
	// CodeDisksInDoubt: the VM's recorded disks may be old ones.
	CodeDisksInDoubt Code = "DISKS_IN_DOUBT"
	// CodeUnreadable: its registration or member record cannot be read.
	CodeUnreadable Code = "UNREADABLE"
)

// Reason is one thing that keeps a VM off a server.
type Reason struct {
	Code Code
	// Sentence is for people and names the server, without a final full stop.
	Sentence string
}

// Verdict is what is to be said about one server and one VM.
type Verdict struct {
	Server pool.ServerID
	// Reasons is empty if the server can take the VM.
	Reasons []Reason
	// FreeBytes is the memory that is not promised to any VM; it may be negative.
	FreeBytes int64
}

// Fits reports whether the server can take the VM.
func (v Verdict) Fits() bool { return len(v.Reasons) == 0 }

// Has reports whether one of the reasons has the code.
func (v Verdict) Has(code Code) bool {
	for _, r := range v.Reasons {
		if r.Code == code {
			return true
		}
	}
	return false
}

// Bytes prints a size for people: "512 MiB", "12 GiB", "1.5 GiB".
func Bytes(n int64) string {
	const kib = 1 << 10
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, u := float64(n), 0
	for (size >= kib || size <= -kib) && u < len(units)-1 {
		size /= kib
		u++
	}
	text := fmt.Sprintf("%.1f", size)
	if len(text) > 2 && text[len(text)-2:] == ".0" {
		text = text[:len(text)-2]
	}
	return text + " " + units[u]
}
