// Package simkv is a simulated etcd: kv.Store and kv.Leases in virtual time.
//
// It keeps multi-version history with compaction, applies transactions atomically, expires leases late but never
// early (up to 0.5 s), gives every lease its full life again when etcd's leader changes or quorum returns, and
// lets leases stand still while there is no quorum. A request and its reply are delayed, held or lost each on its
// own: a transaction whose caller gave up may have taken effect, or may still. docs/facts.md has the
// measurements that it follows; the suite in pkg/kv/kvtest runs against it as against the real one.
//
// A Cluster is either outside the pool (three members at one place that no server's power affects) or embedded: each
// voter lives and dies, is cut and healed with its server.
package simkv
