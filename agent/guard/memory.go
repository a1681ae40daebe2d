package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// FileMemory keeps the state below a folder of its own, one subfolder for each boot; use one under /run. In it,
// state.json has everything, and held/ one empty file for each held process, whose name alone says which: if
// state.json is damaged or gone, these processes can still be killed. Nothing is synced: it need not survive the
// system. For one caller at a time.
type FileMemory struct {
	dir    string // of this boot
	listed map[string]bool
}

var _ Memory = (*FileMemory)(nil)

// NewFileMemory opens the memory of this boot below dir and removes that of others.
func NewFileMemory(dir, bootID string) (*FileMemory, error) {
	if bootID == "" || strings.ContainsAny(bootID, "/.") {
		return nil, fmt.Errorf("guard memory: boot id %q: %w", bootID, pool.ErrInvalid)
	}
	base := filepath.Join(dir, "boots")
	m := &FileMemory{dir: filepath.Join(base, bootID), listed: map[string]bool{}}
	if err := os.MkdirAll(filepath.Join(m.dir, "held"), 0o700); err != nil {
		return nil, fmt.Errorf("guard memory: %w", err)
	}
	boots, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("guard memory: %w", err)
	}
	for _, b := range boots {
		if b.Name() != bootID {
			if err := os.RemoveAll(filepath.Join(base, b.Name())); err != nil {
				return nil, fmt.Errorf("guard memory: %w", err)
			}
		}
	}
	return m, nil
}

// Load returns what was saved last in this boot.
func (m *FileMemory) Load() (Saved, bool, error) {
	entries, err := os.ReadDir(filepath.Join(m.dir, "held"))
	if err != nil {
		return Saved{}, false, fmt.Errorf("guard memory: %w", err)
	}
	var found Saved
	for _, e := range entries {
		m.listed[e.Name()] = true
		if h, ok := parseMark(e.Name()); ok {
			found.Held = append(found.Held, SavedHold{Held: h})
		}
	}
	b, err := os.ReadFile(m.state())
	if errors.Is(err, fs.ErrNotExist) && len(found.Held) == 0 {
		return Saved{}, false, nil
	}
	if err != nil {
		return found, true, fmt.Errorf("guard memory: %w", err)
	}
	saved, err := decode(b)
	if err != nil {
		return found, true, fmt.Errorf("guard memory %s: %w", m.state(), err)
	}
	return saved, true, nil
}

// Save replaces what was saved. A process is listed before the state that holds it and removed from the list after
// the state that does not, so that the list never lacks one.
func (m *FileMemory) Save(s Saved) error {
	want := map[string]bool{}
	for _, h := range s.Held {
		name := mark(h.Held)
		want[name] = true
		if !m.listed[name] {
			if err := os.WriteFile(filepath.Join(m.dir, "held", name), nil, 0o600); err != nil {
				return fmt.Errorf("guard memory: %w", err)
			}
			m.listed[name] = true
		}
	}
	b, err := encode(s)
	if err != nil {
		return fmt.Errorf("guard memory: %w", err)
	}
	if err := statefile.ReplaceInBoot(m.state(), b); err != nil {
		return fmt.Errorf("guard memory: %w", err)
	}
	for name := range m.listed {
		if !want[name] {
			if err := os.Remove(filepath.Join(m.dir, "held", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("guard memory: %w", err)
			}
			delete(m.listed, name)
		}
	}
	return nil
}

func (m *FileMemory) state() string { return filepath.Join(m.dir, "state.json") }

// mark names a held process: PID, start time, VM. A VM's name has no character that a file name may not have.
func mark(h Held) string {
	return fmt.Sprintf("%d,%d,%s", h.Process.PID, h.Process.StartTicks, h.VM)
}

func parseMark(name string) (Held, bool) {
	parts := strings.SplitN(name, ",", 3)
	if len(parts) != 3 {
		return Held{}, false
	}
	pid, err1 := strconv.Atoi(parts[0])
	ticks, err2 := strconv.ParseUint(parts[1], 10, 64)
	h := Held{VM: pool.VMID(parts[2]), Process: Process{PID: pid, StartTicks: ticks}}
	return h, err1 == nil && err2 == nil && pid > 1
}

// The state file is a line with a format number and a checksum, then JSON.
const stateFormat = "holdfast-guard 1 "

func encode(s Saved) ([]byte, error) {
	body, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	return slices.Concat(fmt.Appendf(nil, "%s%08x\n", stateFormat, crc32.ChecksumIEEE(body)), body), nil
}

func decode(b []byte) (Saved, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(head) != fmt.Sprintf("%s%08x", stateFormat, crc32.ChecksumIEEE(body)) {
		return Saved{}, errors.New("not a complete state of this format")
	}
	var s Saved
	if err := json.Unmarshal(body, &s); err != nil {
		return Saved{}, err
	}
	return s, nil
}
