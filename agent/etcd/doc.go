// Package etcd runs the pool's embedded etcd and decides which machines carry its votes.
//
// Three parts, each usable alone:
//
//   - Run is the process `holdfast-agent etcd` (unit holdfast-etcd): one etcd member, or a process that waits to
//     become one. It is a process of its own so that an agent's restart or hang never touches quorum. It asks the
//     members that it knows for the member list and acts on the answer (Next): listed but not started: join;
//     no longer listed: stop and put the data aside; listed, but the data is lost: take the dead entry out, so
//     that the leader adds it anew. Nobody tells it what to do: a machine needs no agent to keep its vote, and a
//     witness is the same process on a machine without one. Where it knows nobody or nobody answers, it starts
//     from the data it has, for that is how a pool that lost power comes back.
//   - Plan decides the next change of membership from the members and the seats (the machines that may carry a
//     vote); Keeper is the loop around it, run by the leader's agent. One change at a time, never one after which
//     fewer than a majority would be alive.
//   - Endpoints keeps the list of members that clients can use, in memory and on disk for the next start.
//
// How many votes: 3 in pools of up to 4 servers, 5 from 5 on, never an even number. A pool of two servers has one
// vote and a standby, a learner that has all data but no vote: two votes would stop the pool when either server
// dies, one only when that server does. A witness makes it three.
//
// What the package does not guarantee: that a pool outlives the loss of most votes at once. Membership changes are
// not guarded by the leader's key as other writes are, because etcd cannot compare keys in them; Keeper announces
// each one by a guarded write first, and etcd itself refuses a change that would cost quorum.
//
// Words: a seat is a machine's offer to carry a vote (key seats/<name>); a voter, learner or member is etcd's own.
package etcd
