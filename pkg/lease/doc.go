// Package lease keeps a server's session alive: one etcd lease with the member key on it, renewed by an own loop,
// and the election that rides on the same lease.
//
// What it guarantees. The deadlines of a session are counted from just before a request that succeeded was sent
// (Info.Sent), on CLOCK_BOOTTIME. etcd starts counting later and expires late, never early, so the member key
// outlives Info.Deadline, and whoever stops protected VMs by then stops them before anybody can see the key gone.
// Deadlines of a session never go back, but for a move to a shorter lease, where the guard hears of the earlier
// deadline before the key moves. Allows is true only for deadlines that the guard has acknowledged. Renewals go on
// whether the guard answers or not.
//
// A session is the life of the member key: its number is the key's create revision. A renewal that succeeds after
// KillAt therefore continues the session. This is safe: the key was there all the time, so nobody had a reason to
// take a VM away, and what the guard killed meanwhile is an ordinary dead process under an unchanged claim.
//
// Every write of the member key compares the key's mod revision and keeps the lease that the key had at that
// revision, except the writes that move it. So a write whose reply was lost cannot land after a later one, and a
// move whose outcome is unknown is settled by an acknowledged write, never by a read: a request that is still under
// way would make the read worthless. While a move is unsettled no deadline is extended.
//
// What it does not guarantee. If somebody deletes the member key by hand while the lease lives, this package notices
// only at the next Recheck or write. Two agents that run for the same server at the same time are not detected here
// unless they find each other's key. Leading is advice: the guard of every leader write is pool.Leader's revision.
//
// Session and Candidate are built with New and NewCandidate and run by their Run; all other methods may be called
// from anywhere, at any time. docs/safety.md, "Lease budget", has the arithmetic.
package lease
