package failsafe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	b, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Known{}, false, nil
	}
	if err != nil {
		return Known{}, false, err
	}
	var file memoryFile
	if err := json.Unmarshal(b, &file); err != nil {
		return Known{}, false, fmt.Errorf("%s: %w", f.Path, err)
	}
	return file.Known, file.BootID == f.BootID, nil
}

// Save replaces the file atomically. It is not synced: it need not survive the system.
func (f FileMemory) Save(k Known) error {
	b, err := json.Marshal(memoryFile{BootID: f.BootID, Known: k})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return err
	}
	tmp := f.Path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, f.Path)
}
