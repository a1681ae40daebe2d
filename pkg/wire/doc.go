// Package wire translates the pool's records between pkg/pool and proto/holdfast/v1, in both directions.
//
// X(v) turns a pool value into its message and never fails: text that is not valid UTF-8 (an error message of
// some program, say) has its broken bytes replaced, because neither JSON nor protobuf can carry it. ParseX(m)
// turns a message into the pool value; it fails for an enum value that this version does not know and for times
// that are none, and accepts everything else, also a nil message. It does not judge values: that is Validate and
// Check of pkg/pool.
//
// The zero time and the zero duration stand for "none" and are absent in messages. Empty and missing lists and
// maps are the same. What a record takes from its key in etcd (Revision, and a member's Session) is no part of
// its message: pkg/store fills it in.
//
// The functions are pure and safe for concurrent use. Results share nothing that can be changed with their
// arguments.
package wire
