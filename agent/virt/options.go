package virt

import (
	"log/slog"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Options assembles an Adapter. Clock and Log are required; the rest has defaults.
type Options struct {
	Clock clock.Clock
	Log   *slog.Logger
	// URI of libvirt. Empty: the first of Sockets that exists.
	URI string
	// Sockets are the daemons' sockets in the order they are tried: modular daemons first.
	Sockets []string
	// RunDir is where libvirt keeps each QEMU's PID file.
	RunDir string
	// MonitorDir is where each QEMU that Create starts opens a second QMP socket, through which the guard can pause it
	// without libvirt. It is made, for QEMU's user alone. Empty: no such sockets. Where a security module (AppArmor,
	// SELinux) does not let QEMU listen there, VMs start without: Adapter.NoPause says so.
	MonitorDir string
	// UnsafeMigration has libvirt migrate VMs whose disks it takes for local. For storage that every server sees and
	// libvirt does not know as shared; wrong anywhere else, it loses data.
	UnsafeMigration bool
	// StoragePaths must work, or StorageLost says so. Empty: derived from the disks of the VMs here.
	StoragePaths []string
	// CallLimit bounds a call that only reads or asks; StartLimit one that starts or resumes a process, which takes
	// longest on first use, when libvirt probes QEMU (up to 4 s measured, docs/facts.md).
	CallLimit, StartLimit time.Duration
	// Settle is how long after a process's death libvirt may take to say why. 1 s was measured for 20 deaths at
	// once, docs/facts.md.
	Settle time.Duration
	// Reread bounds how long something that no event told of stays unseen.
	Reread time.Duration
	// KeepAlive and KeepAliveCount: a daemon that has not answered for KeepAlive x (count + 1) is given up and the
	// connection made anew. Whole seconds.
	KeepAlive      time.Duration
	KeepAliveCount int
}

func (o Options) complete() Options {
	if len(o.Sockets) == 0 {
		o.Sockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}
	}
	setDefault(&o.RunDir, "/run/libvirt/qemu")
	setDefault(&o.CallLimit, 5*time.Second)
	setDefault(&o.StartLimit, 25*time.Second)
	setDefault(&o.Settle, 5*time.Second)
	setDefault(&o.Reread, time.Minute)
	setDefault(&o.KeepAlive, 3*time.Second)
	setDefault(&o.KeepAliveCount, 3)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Health is what the adapter knows of itself; for status pages and alerts.
type Health struct {
	// Connected: the daemon answers. Reason says why not.
	Connected bool
	Reason    string
	// URI is what it is, or was last, connected to. Version is the daemon's, such as "9.0.0".
	URI, Version string
	// Stuck lists calls that passed their limit and have not come back, oldest first.
	Stuck []StuckCall
	// StuckFiles lists looks at files that have not come back.
	StuckFiles []string
}

// StuckCall is one call into libvirt that hangs.
type StuckCall struct {
	What  string
	VM    pool.VMID
	Since pool.Instant
}

// Found is a domain that libvirt knows, as LookupDomain reports it.
type Found struct {
	// XML is a definition that can be registered, passwords included.
	XML        string
	Name, UUID string
	Running    bool
	Persistent bool
	Autostart  bool
	// Marker is set if a pool made or adopted it.
	Marker *local.Marker
	// Notes say what the operator should know before the pool takes it over.
	Notes []string
}

// Inspection is what this server says about a definition.
type Inspection struct {
	// Missing names what it lacks.
	Missing []string
	// Rejected is libvirt's reason not to accept the definition; empty if it would.
	Rejected string
	// Unlocked names disks whose file system keeps no locks between servers.
	Unlocked []string
}
