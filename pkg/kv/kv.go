package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ErrLeaseNotFound: the lease has expired or was revoked.
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

// Watcher is one running watch. Next blocks until something happened; it is for one caller at a time.
type Watcher interface {
	Next(ctx context.Context) (Batch, error)
	Close()
}

// Store is etcd as Holdfast uses it. Safe for concurrent use.
type Store interface {
	// Get reads one key linearizably; ok is false when it is absent.
	Get(ctx context.Context, key string) (kv KeyValue, ok bool, err error)
	// List reads all keys below prefix at one revision, in key order. Large prefixes are paged internally.
	List(ctx context.Context, prefix string) ([]KeyValue, pool.Revision, error)
	Txn(ctx context.Context, txn Txn) (Result, error)
	// Watch delivers all changes below prefix from revision from on.
	Watch(ctx context.Context, prefix string, from pool.Revision) (Watcher, error)
}

// Leases grants and renews leases. Safe for concurrent use.
type Leases interface {
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive renews once, through etcd member number attempt (modulo their count), so that a caller moves on
	// from a member that hangs. ErrLeaseNotFound: it is gone.
	KeepAlive(ctx context.Context, id LeaseID, attempt int) error
	Revoke(ctx context.Context, id LeaseID) error
}
