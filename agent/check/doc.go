// Package check judges whether a server, and the pool that it belongs to, are set up so that VMs survive the loss of a
// server: one line for each thing, with a verdict and, if it is not good, what to do about it.
//
// Judge is a pure function from Facts to Lines. Who collects the facts (holdfast-agent check) asks libvirt, etcd, the
// guard, the fence devices and the other agents, changes nothing, and notes what could not be learned: a fact that is
// missing is a line that fails, never one that is left out.
package check
