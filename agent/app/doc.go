// Package app assembles one agent from its edges: the pool's mirror, the session, the reconciler of this server's
// VMs, the election, the leader's loop and the API. It decides nothing.
//
// The same assembly runs in production (edges: etcd, libvirt, the guard's socket, the mesh), in `holdfast-agent
// demo` (real etcd, simulated servers) and in the simulator (everything simulated, virtual time). So an agent is a
// value: New builds it, Run runs it until its context ends.
package app
