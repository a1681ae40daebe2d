// Package localtest holds what every local.Hypervisor must do: Run and RunTransfers are the conformance suite, for
// libvirt with QEMU and for their imitation in the simulator. docs/facts.md is its specification: where libvirt
// surprises, a rule here says so, and the imitation must surprise in the same way.
//
// Only tests import this package.
package localtest
