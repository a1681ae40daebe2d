package lease

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// State is what an agent leaves for the next one on the same server, so that it can take the session over.
type State struct {
	MemberKey   string       `json:"memberKey"`
	Incarnation string       `json:"incarnation"`
	Session     pool.Session `json:"session"` // zero: the key was about to be created
	Lease       kv.LeaseID   `json:"lease"`
	// TTL is the lease's own lifetime, not what the pool's policy says.
	TTL time.Duration `json:"ttl"`
	// NextLease is set while the key moves to another lease: it may hang on either.
	NextLease kv.LeaseID    `json:"nextLease,omitempty"`
	NextTTL   time.Duration `json:"nextTtl,omitempty"`
}

// StateStore keeps one State for the life of the machine. Load's ok is false when nothing usable was kept.
type StateStore interface {
	Load() (state State, ok bool, err error)
	Save(State) error
}

// usable reports whether s belongs to this member key, and to a lease that deadlines can be derived from.
func (s State) usable(memberKey, incarnation string) bool {
	return s.MemberKey == memberKey && s.Incarnation == incarnation && s.Lease != 0 && s.TTL >= pool.MinTTL &&
		(s.NextLease == 0 || s.NextTTL >= pool.MinTTL)
}

// owns reports whether the member key as found was made under s.
func (s State) owns(found kv.KeyValue) bool {
	ours := found.Lease != 0 && (found.Lease == s.Lease || found.Lease == s.NextLease)
	return ours && (s.Session == 0 || s.Session == pool.Session(found.CreateRevision))
}

// settle notes that the key certainly hangs on lease.
func (s *State) settle(lease kv.LeaseID) {
	if lease == s.NextLease {
		s.Lease, s.TTL = s.NextLease, s.NextTTL
	}
	s.NextLease, s.NextTTL = 0, 0
}

// FileState keeps the state in a file, together with the boot it belongs to: after a reboot the file counts for
// nothing, whatever folder it lies in. Use one under /run. For one caller at a time.
type FileState struct {
	Path string
	// BootID of the running system; see BootID.
	BootID string
}

var _ StateStore = FileState{}

type stateFile struct {
	BootID string `json:"bootId"`
	State
}

// Load returns the state, or ok false when there is none from this boot.
func (f FileState) Load() (State, bool, error) {
	var file stateFile
	if found, err := statefile.LoadJSON(f.Path, &file); err != nil || !found {
		return State{}, false, err
	}
	return file.State, file.BootID == f.BootID && file.Lease != 0, nil
}

// Save replaces the file atomically. It is not synced: it need not survive the system.
func (f FileState) Save(s State) error {
	b, err := json.Marshal(stateFile{BootID: f.BootID, State: s})
	if err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	return statefile.ReplaceInBoot(f.Path, b)
}

// BootID returns the kernel's name for this boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
