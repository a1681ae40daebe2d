//go:build libvirt_dlopen

package virt

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/local/localtest"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestLibvirtDoesWhatAHypervisorMust(t *testing.T) {
	t.Parallel()
	e := newRoad(t).edge()
	localtest.Run(t, func(t *testing.T) localtest.Edge { return e })
}

func TestLibvirtMigratesAsAHypervisorMust(t *testing.T) {
	t.Parallel()
	e := newRoad(t).edge()
	localtest.RunTransfers(t, func(t *testing.T) localtest.Edge { return e })
}

// edge is the two servers as the conformance suite sees them.
func (r *road) edge() localtest.Edge {
	n := 300
	code := map[localtest.Kind][]byte{localtest.Obedient: obeys, localtest.Leaving: leaves, localtest.Panicking: panics}
	return localtest.Edge{
		Servers: []localtest.Server{r.server(r.from, r.a), r.server(r.to, r.b)}, Clock: clock.Real(),
		Guest: func(k localtest.Kind) localtest.Guest {
			n++
			g := r.from.guest(fmt.Sprint("vm-", n), n, code[k])
			return localtest.Guest{VM: g.vm(), UUID: g.uuid, XML: g.xml}
		},
		Migration: func(m local.Migration, slowly bool) local.Migration {
			m.Link = r.link
			if slowly {
				m.Bandwidth = 4 * slow
			}
			return m
		},
	}
}

func (r *road) server(d *daemon, a *Adapter) localtest.Server {
	t := r.t
	unsafe := func(o *Options) { o.UnsafeMigration = true }
	return localtest.Server{
		Hypervisor: a,
		KillDaemon: func() {
			d.kill()
			within(t, 10*time.Second, "the loss is noticed", func() bool { return !a.Health().Connected })
		},
		StartDaemon: func() {
			d.start()
			within(t, 20*time.Second, "it connects again", func() bool { return a.Health().Connected })
		},
		KillQEMU: func(p guard.Process) {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
		Pause: func(vm pool.VMID) {
			dom, err := d.connect().LookupDomainByName(string(vm))
			if err != nil {
				t.Fatal(err)
			}
			if err := dom.Suspend(); err != nil {
				t.Fatal(err)
			}
		},
		Stranger: func(g localtest.Guest) {
			dom, err := d.connect().DomainDefineXML(g.XML)
			if err != nil {
				t.Fatal(err)
			}
			if err := dom.Create(); err != nil {
				t.Fatal(err)
			}
		},
		Anew: func() local.Hypervisor { return d.adapter(unsafe) },
	}
}
