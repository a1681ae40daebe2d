// Package kv is the edge between Holdfast and etcd: linearizable reads, guarded transactions, watches from a
// revision, and leases, in the few shapes that the rest of the code needs.
//
// There are two implementations: pkg/kv/etcd on the real client, and the simulated one in agent/sim. The
// conformance suite in pkg/kv/kvtest runs against both.
//
// Guarantees: a Get or List is linearizable; a Txn is atomic, and its compares see the state it changes. An error
// that wraps pool.ErrOutcomeUnknown means that a Txn may have taken effect, or may still; one that wraps
// pool.ErrUnavailable means that it has not and never will. Watches deliver every change after their first
// revision in order, one Batch per revision at least, or end with ErrCompacted.
package kv
