// Package failsafe lets protected VMs run on while nobody can reach etcd. Without etcd no leader can write a claim, so
// nobody can take a VM over; but a server that cannot reach etcd cannot know whether the others can. So it asks: every
// other server on the roster, whose members alone may lead, must promise not to act as leader for long enough.
//
//   - Book keeps the roster as this server knows it, on disk too, and says which one it has acknowledged.
//   - Promises is the answering side: what this agent has promised, and what that forbids it.
//   - Keeper is the asking side: while the session is not renewed, it asks, and tells the guard.
//
// What it guarantees. A session's VMs are prolonged to asked + T only if every other server on a roster that was read
// at or after the session's beginning promised, after it was asked, not to act as leader for T + L. The guard takes it
// only while the stop time that it knows is ahead. Nothing here permits a start or a resume: those look at the lease
// alone. A promise binds from before its answer leaves until it is over, whether etcd is back or not.
//
// What it does not guarantee: that anything runs on. One missing or different answer, and VMs stop at the stop time.
//
// The argument is in docs/safety.md, "Failsafe". All types are safe for concurrent use.
package failsafe
