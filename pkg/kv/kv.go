package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ErrLeaseNotFound means that the lease has expired or was revoked.
var ErrLeaseNotFound = errors.New("lease not found")

// CompactedError ends a watch whose next revision is no longer kept. List again and watch from there.
type CompactedError struct {
	// Oldest is the oldest revision that can still be watched.
	Oldest pool.Revision
}

// Error says from where a watch is possible.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("history is compacted: the oldest revision kept is %d", e.Oldest)
}

// LeaseID names a lease; zero means none.
type LeaseID int64

// KeyValue is one key as stored.
type KeyValue struct {
	Key            string
	Value          []byte
	CreateRevision pool.Revision
	ModRevision    pool.Revision
	Lease          LeaseID
}

// Target says which property of a key a Compare looks at.
type Target int

// Targets of a Compare.
const (
	// TargetMod compares the mod revision; 0 means the key is absent.
	TargetMod Target = iota
	// TargetCreate compares the create revision; 0 means the key is absent.
	TargetCreate
)

// Compare demands equality of one revision of one key.
type Compare struct {
	Key    string
	Target Target
	Equals pool.Revision
}

// ModIs demands that key was last changed at rev.
func ModIs(key string, rev pool.Revision) Compare { return Compare{key, TargetMod, rev} }

// CreatedAt demands that key was created at rev and has lived since.
func CreatedAt(key string, rev pool.Revision) Compare { return Compare{key, TargetCreate, rev} }

// Absent demands that key does not exist.
func Absent(key string) Compare { return Compare{key, TargetMod, 0} }

// Op is one write of a transaction: a put, or a delete if Delete is set.
type Op struct {
	Key    string
	Value  []byte
	Lease  LeaseID
	Delete bool
}

// Put writes value under key, without a lease.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// PutLeased writes value under key, bound to lease.
func PutLeased(key string, value []byte, lease LeaseID) Op {
	return Op{Key: key, Value: value, Lease: lease}
}

// Delete removes key.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Txn applies Then if all compares hold, and nothing otherwise. A key may appear in Then only once.
type Txn struct {
	If   []Compare
	Then []Op
	// Read lists keys to return from the state in which the compares failed.
	Read []string
}

// Check reports a transaction that no store accepts: too many parts, an empty key, a key written twice. Errors are
// pool.ErrInvalid.
func (t Txn) Check() error {
	if n := max(len(t.If), len(t.Then), len(t.Read)); n > MaxOps {
		return fmt.Errorf("%d parts in a transaction, at most %d are possible: %w", n, MaxOps, pool.ErrInvalid)
	}
	written := make(map[string]bool, len(t.Then))
	for _, op := range t.Then {
		if op.Key == "" {
			return fmt.Errorf("a write without a key: %w", pool.ErrInvalid)
		}
		if written[op.Key] {
			return fmt.Errorf("key %s is written twice in a transaction: %w", op.Key, pool.ErrInvalid)
		}
		written[op.Key] = true
	}
	for _, c := range t.If {
		if c.Key == "" {
			return fmt.Errorf("a guard without a key: %w", pool.ErrInvalid)
		}
	}
	for _, key := range t.Read {
		if key == "" {
			return fmt.Errorf("a read without a key: %w", pool.ErrInvalid)
		}
	}
	return nil
}

// MaxOps is how many operations one Txn may hold: etcd's default limit.
const MaxOps = 128

// Result is the outcome of a Txn.
type Result struct {
	Applied bool
	// Revision of the store after the transaction; of the changed keys if Applied.
	Revision pool.Revision
	// Found holds the existing ones of Read, if not Applied.
	Found []KeyValue
}

// Event is one change of one key.
type Event struct {
	KeyValue
	Deleted bool
}

// Batch is what a watch delivers: all events of one or more complete revisions up to Revision, in order. A Batch
// without events is a progress report.
type Batch struct {
	Revision pool.Revision
	Events   []Event
}

// Watcher is one running watch. Next blocks until something happened; it is for one caller at a time. It fails with
// ctx's error if ctx ends first, which loses nothing; with *CompactedError; or with pool.ErrUnavailable once the
// watch is broken and must be closed and begun anew.
type Watcher interface {
	Next(ctx context.Context) (Batch, error)
	Close()
}

// ProgressEvery is how often a healthy watch reports at the latest, with an empty Batch if nothing changed. Shorter
// would show a lost etcd sooner and cost more: one message a second and agent is not seen in etcd's load.
const ProgressEvery = time.Second

// Store is etcd as Holdfast uses it. Safe for concurrent use.
type Store interface {
	// Get reads one key linearizably; ok is false when it is absent.
	Get(ctx context.Context, key string) (kv KeyValue, ok bool, err error)
	// List reads all keys below prefix at one revision, in key order. Large prefixes are paged internally.
	List(ctx context.Context, prefix string) ([]KeyValue, pool.Revision, error)
	// Txn applies a transaction. One without Then writes nothing, and its Result has the revision of the store,
	// read linearizably. Errors besides those of the package comment: pool.ErrInvalid for one that can never work
	// (an empty key, a key put twice, too many operations), ErrLeaseNotFound for a put under a lease that is gone.
	Txn(ctx context.Context, txn Txn) (Result, error)
	// Watch delivers all changes below prefix from revision from on. While etcd is in reach, a Batch comes at least
	// every ProgressEvery or so. It may return before the watch is known to work; Next tells.
	Watch(ctx context.Context, prefix string, from pool.Revision) (Watcher, error)
}

// Leases grants and renews leases. Safe for concurrent use.
type Leases interface {
	// Grant makes a lease that lives for ttl: whole seconds, 1 s or more, otherwise pool.ErrInvalid. etcd may let it
	// live longer, never shorter.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive renews once, through etcd member number attempt (modulo their count), so that a caller moves on
	// from a member that hangs. ErrLeaseNotFound: it is gone.
	KeepAlive(ctx context.Context, id LeaseID, attempt int) error
	Revoke(ctx context.Context, id LeaseID) error
}
