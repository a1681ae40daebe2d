package failsafe

import (
	"encoding/json"

	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// FileMemory keeps a Known in a file, together with the boot that it belongs to: after a reboot nothing runs that it
// could prolong. Use a file under /run. For one caller at a time.
type FileMemory struct {
	Path string
	// BootID of the running system.
	BootID string
}

var _ Memory = FileMemory{}

type memoryFile struct {
	BootID string `json:"bootId"`
	Known
}

// Load returns what was kept in this boot.
func (f FileMemory) Load() (Known, bool, error) {
	var file memoryFile
	if found, err := statefile.LoadJSON(f.Path, &file); err != nil || !found {
		return Known{}, false, err
	}
	return file.Known, file.BootID == f.BootID, nil
}

// Save replaces the file atomically. It is not synced: it need not survive the system.
func (f FileMemory) Save(k Known) error {
	b, err := json.Marshal(memoryFile{BootID: f.BootID, Known: k})
	if err != nil {
		return err
	}
	return statefile.ReplaceInBoot(f.Path, b)
}
