// Package previous stands in for an agent of the version before this one (n-1) in a pool that is being upgraded: it
// sees values in etcd as that version would, and writes what that version could.
//
// api.binpb is that version's API as a descriptor set. A value is read through it: fields that it does not have are not
// seen, and lost when the record is written back, as every agent does with fields that it does not know; a value with an
// enum word that it does not have cannot be read at all (pkg/store). With each release the file is made anew from the
// sources of the release that was:
//
//	buf build --exclude-source-info -o agent/sim/previous/api.binpb
//
// What it does not stand in for: decisions that the earlier version made otherwise. Those are what pool.MinVersion is for.
package previous
