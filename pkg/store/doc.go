// Package store keeps a pool in etcd: which key holds what, how records become values, how writes are guarded,
// and how every agent sees the whole pool in memory.
//
//   - Keys names every key below /holdfast/v1/<pool>/ and builds the operations and guards of transactions.
//     docs/etcd.md describes the key space for other tools.
//   - Store reads records linearizably and commits guarded transactions, one by one or in batches.
//   - Mirror folds one list and one watch into an immutable pool.Snapshot for each revision.
//
// # Guarantees
//
// A read reflects every write that was acknowledged before it began. A commit is atomic; it fails with
// *GuardError (pool.ErrStale, and pool.ErrLostLeadership if the leader key was among what changed), with
// pool.ErrUnavailable (nothing was written, and nothing will be), or with pool.ErrOutcomeUnknown (it may have
// taken effect, or may do so later). Nothing is tried again behind the caller's back.
//
// Snapshots never go back in revision and skip none that changed the pool. They lag behind etcd by the time that
// a watch takes; LastContact tells how long ago the connection was last known to work. Who must be sure reads.
//
// # Values that cannot be read
//
// A value that is no valid record (broken JSON, a word of a newer version in a field that matters, a name that is
// not the key's, data of another incarnation) never stops the rest. Its key and the reason stand in
// Snapshot.Corrupt, and it is not treated as absent: the tables hold a placeholder that permits nothing.
//
//   - claims: PhaseUnspecified. It names no owner and no session, so nobody may start, take over, or kill the VM.
//   - vms: DesiredUnspecified. Nothing is wanted of the VM; it stays as it is.
//   - members: the session lives (the key's create revision says so), but offers no memory, no guard and no
//     roster revision.
//   - fences: ProofNone. It proves nothing and may be overwritten.
//   - homes, states: empty; the next write by their owner replaces them.
//   - config: the last one that could be read, else defaults with HA on and frozen. One that was deleted while servers
//     are registered: the last one, frozen. A pool of which nothing is left is another life (ErrOtherLife).
//   - roster: nobody is in force, and one server that does not exist must be asked: nobody may lead, and no
//     failsafe round succeeds.
//   - leader: an election key without a readable name still counts as the leader, without a name.
//   - servers, operations, alerts, events: only in Snapshot.Corrupt. A server that is not in the table is not
//     registered, so nothing is placed there and nothing taken from there.
//
// Linearizable reads return a *CorruptError for such values. Records keep fields that a newer agent has added out
// of sight: they are ignored here and lost when this version writes the record again.
//
// # What this package does not do
//
// It decides nothing, and it does not judge whether a change makes sense: the guards are the caller's. secrets/
// and tokens/ are named here but never enter a snapshot.
//
// Everything waits through a clock.Clock only, so that the same code runs in the simulator.
package store
