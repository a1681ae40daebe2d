// Package saved is a pool's persistent state as a document outside etcd: the copy that every agent keeps on disk, and the
// file that `holdfast-agent backup` writes. Both have one format, the JSON of the API's SavedState.
//
// What is in it: the policy, the registrations of servers and VMs, the claims, the counted failures, revoked certificates,
// the records of outages. What is not: everything that hangs on a lease (members, the leader, join tokens), what is
// observed anew (states, alerts), what would be half-done (operations), fences, events, and passwords. Passwords stand in
// etcd under keys of their own, which agents neither mirror nor hand out; a copy of them in another place would be one
// more place to steal them from. After a rebuild they are set anew.
//
// A document names the incarnation of the data that it was read from and its revision there. Revisions of two incarnations
// do not compare: Newest takes the order of the incarnations from its caller.
//
// What it does not guarantee: that a document is up to date. A claim may have changed after it was saved, so it is never
// by itself a reason to start a VM; agent/rebuild judges that. Documents are checked when they are read: format, names,
// and each record as the store would check it. Functions are pure but Write and Read; values belong to their callers.
package saved
