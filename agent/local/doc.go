// Package local brings the VMs of one server in line with their claims. It always runs, leader or not.
//
// It is level-triggered: it compares claim, registration, domain, guard and session of each VM, makes one step
// towards agreement, and looks again. Events only wake it. What the step is, is decided by the pure function
// Decide; the rest of the package observes and carries out.
//
// Guarantees (docs/safety.md, "Rules for an agent"):
//   - CPUs of a VM run only after a transaction that names this server and session as its holder was
//     acknowledged, with the guard holding a protected VM before that, and before the session's stop time.
//   - A VM's claim is released only after its QEMU process was seen dead.
//   - A domain of a registered VM is destroyed only after a linearizable read of its claim.
//   - Trouble with one VM delays no other: each has its own worker.
//
// It does not decide where VMs run, and it does not stop VMs at the deadline: that is the guard's work.
package local
