package pool

// Readable reports whether the claim's value in etcd could be read. One that could not stands in a Snapshot with
// PhaseUnspecified and no owner: leave its VM alone, whatever state that is in. See Snapshot.Corrupt.
func (c Claim) Readable() bool { return c.Phase != PhaseUnspecified }

// Readable reports whether the registration's value in etcd could be read. One that could not stands in a Snapshot
// with DesiredUnspecified: nothing is wanted of the VM, and nothing may be inferred from its HA being off.
func (v VM) Readable() bool { return v.Desired != DesiredUnspecified }
