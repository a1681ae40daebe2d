package lease

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// FormerState keeps the session that a planned stop handed over in a file that outlives the boot. It gives it back only
// to a later boot of the same machine: then, and only then, everything that ran under the session is dead. For one
// caller at a time.
type FormerState struct {
	Path string
	// BootID of the running system; see BootID.
	BootID string
	// HostUUID of the machine, from its firmware; where it tells none of its own, nothing is given back.
	HostUUID string
}

var _ StateStore = FormerState{}

type formerFile struct {
	BootID   string `json:"bootId"`
	HostUUID string `json:"hostUuid"`
	State
}

// Load returns what an earlier boot of this machine handed over.
func (f FormerState) Load() (State, bool, error) {
	var file formerFile
	if found, err := statefile.LoadJSON(f.Path, &file); err != nil || !found {
		return State{}, false, err
	}
	same := distinct(f.HostUUID) && strings.EqualFold(file.HostUUID, f.HostUUID)
	later := file.BootID != "" && f.BootID != "" && file.BootID != f.BootID
	return file.State, same && later && file.Lease != 0 && file.Session != 0, nil
}

// Save replaces the file atomically and durably.
func (f FormerState) Save(s State) error {
	b, err := json.Marshal(formerFile{BootID: f.BootID, HostUUID: f.HostUUID, State: s})
	if err != nil {
		return fmt.Errorf("keep handed-over session: %w", err)
	}
	return statefile.Replace(f.Path, b, 0o600)
}

// FirmwareUUID returns the machine's UUID as its firmware tells it, empty if it does not. Nothing on a disk counts: a
// copy of the disk would make another machine the same.
func FirmwareUUID() string {
	b, err := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// distinct reports whether a host UUID is one that only one machine has: not missing, and not one of those that boards
// come with whose maker gave them none.
func distinct(uuid string) bool {
	digits := strings.ToLower(strings.ReplaceAll(uuid, "-", ""))
	switch {
	case len(digits) != 32, strings.Trim(digits, digits[:1]) == "", digits == "03000200040005000006000700080009":
		return false
	}
	return true
}
