// Package world simulates what Holdfast's agents touch besides etcd and the network: servers with power, boot and
// a watchdog; libvirtd and QEMU processes with their image locks; the shared storage and each server's path to
// it; power fencing; and the processes that run on a server (agent, guard), which can be killed, hung and started.
//
// The truth is kept here, apart from what any agent believes: a QEMU process executes its guest or it does not.
// Observers are told of every change, at the moment it happens. docs/facts.md is the specification of libvirt's,
// QEMU's and the locks' behaviour; the edges (Hypervisor, Needs, Processes, Fencer) implement the interfaces of
// the agent's packages.
//
// Everything runs in the events and coroutines of one vtime.Scheduler. vtime.Paced makes the same world usable in
// real time, from any goroutine.
package world
