// Package place answers one question: which server should run a VM, in what order of preference, and why not the
// others. A placement is an opinion; only a claim gives the right to run.
//
// It is pure: the answer follows from its arguments alone, ties are broken by name, and the order of the input
// does not matter. It reads no clock and does no I/O.
//
// How it is used: NewLoad once per snapshot, then Explain or Best for one VM, or Batch for all VMs of a recovery
// together. Batch keeps count of what it has given away, so that it never promises the same memory twice.
//
// What it guarantees: a server that it names is a live member that accepts VMs, has what the VM needs, keeps the
// hard rules (require, apart, together) and has the memory. Memory is never overcommitted; CPUs are, and only
// decide between servers that qualify. A refusal always carries a reason.
//
// What it does not guarantee: that a better packing does not exist. Batch goes by priority, then size, and never
// moves a VM that runs to make room.
package place
