// Package etcd is kv.Store and kv.Leases on a real etcd, embedded or external.
//
// Each endpoint has a client of its own, made when it is first needed. Reads try one member after the other. A
// write is sent once: before it goes out the connection must be up, so a failure to connect is certainly not
// applied (pool.ErrUnavailable), and after that everything but a refusal by etcd itself is pool.ErrOutcomeUnknown.
// Whoever fails is asked last the next time. Renewals go to the member that the caller names.
//
// A watch is one stream. It asks for a progress report every kv.ProgressEvery and counts as broken when nothing
// comes for several of them, when the member has lost its quorum, or when the connection ends; it is never resumed
// silently.
//
// CheckVersions refuses etcd releases that can end a lease too early; see there.
//
// This is an edge: it uses goroutines and the machine's timers and never runs in the simulator.
package etcd
