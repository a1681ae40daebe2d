package check

import (
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Facts is what was seen. Errors are sentences; empty means that it worked.
type Facts struct {
	Server  pool.ServerID
	Version string
	// Pool is what etcd holds; nil if it could not be read, for the reason PoolErr.
	Pool    *pool.Snapshot
	PoolErr string
	// Etcd are the times that linearizable reads took. EtcdVersionErr refuses its version, ElectionErr its election
	// time-out beside the pool's lease_ttl, LoseOneErr says why it does not survive the loss of a server.
	Etcd                                    []time.Duration
	EtcdVersionErr, ElectionErr, LoseOneErr string
	Libvirt                                 Libvirt
	Storage                                 []string
	GuardErr                                string
	Watchdog                                Watchdog
	// Peers are the registered servers, this one included, as they answered.
	Peers map[pool.ServerID]Peer
	// Fences are those with fence devices, and what their devices said.
	Fences map[pool.ServerID]string
	Paths  Paths
}

// Libvirt is this server's hypervisor.
type Libvirt struct {
	Err         string
	HostUUID    string
	MemoryBytes int64
	CPUs        int
}

// Watchdog is this server's hardware watchdog.
type Watchdog struct {
	// Wanted is the setting: auto, off or a device. Device is what that comes to; empty: none.
	Wanted, Device string
	// Identity is what the device calls itself; Software: it is the kernel's, which stops with a frozen host.
	Identity string
	Software bool
	// Owner is the process that holds it open, if any: name and number.
	Owner string
}

// Peer is one server as it answered.
type Peer struct {
	// Err is why it did not answer.
	Err       string
	RoundTrip time.Duration
	// Offset is how far its wall clock is ahead of this server's, to half a round trip; HasClock: it said.
	Offset   time.Duration
	HasClock bool
	Version  string
	// EtcdReachable and Guard are what it says of itself.
	EtcdReachable, Guard bool
	// StorageErr is why it could not look for the storage; MissingStorage what it does not see.
	StorageErr     string
	MissingStorage []string
	// CPULacks is what its CPU lacks of the CPU that VMs get here.
	CPULacks []string
}

// Paths is how this server reaches the others.
type Paths struct {
	// Err is why it is not known.
	Err string
	// Interface carries the server's address; Links are the links below it, if it is a bond or a team.
	Interface string
	Links     []string
	// Apart: etcd's members are reached through another interface.
	Apart bool
}
