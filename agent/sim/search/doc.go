// Package search looks for the failure that breaks the pool: it makes up scenarios from a seed, plays each with the
// real agents on the simulated pool, and has every invariant checked after every event.
//
//   - Generate makes a scenario from a seed: plain text in the scenario language, without expectations.
//   - Run plays a range of seeds on several processors and returns a Report: runs, virtual time, faults of each kind,
//     and which states of claims, VMs and servers were seen.
//   - Shrink makes a scenario that breaks an invariant smaller while it still breaks the same one.
//
// Operators of these scenarios tell the truth: a server is confirmed to be fenced only while it has no power; and the
// pool trusts guards alone, for disks without locks, only where nothing happens to guards. Harm that follows from
// breaking these rules is what docs/safety.md says it is, and not a find.
package search
