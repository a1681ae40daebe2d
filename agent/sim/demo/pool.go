package demo

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Incarnation of the demo's etcd data.
const Incarnation = "de300000-0000-4000-8000-000000000000"

// text is the demo's pool in the scenario language.
const text = `
pool ttl=5s
server srv-1 memory=64G cpus=16
server srv-2 memory=64G cpus=16
server srv-3 memory=48G cpus=12
vm db-main  on=srv-1 memory=16G cpus=4 priority=high
vm db-copy  on=srv-2 memory=16G cpus=4 priority=high apart=db
vm web-01   on=srv-1 memory=4G cpus=2 apart=web
vm web-02   on=srv-2 memory=4G cpus=2 apart=web
vm mail     on=srv-3 memory=8G cpus=2
vm build    on=srv-3 memory=24G cpus=8 priority=low
vm wiki     on=srv-1 memory=2G
vm lab-box  on=srv-2 memory=4G ha=off
`

// load reads one statement about the demo's pool.
func (d *demo) load(statement string) (*scenario.File, error) {
	f, err := scenario.Parse("demo", d.text+"\nat 10h "+statement+"\n")
	if err != nil {
		msg := err.Error()
		if _, after, ok := strings.Cut(msg, ": "); ok {
			msg = after + "; say such as: power off srv-2, power on srv-2, cut srv-1, heal all, vm crash web-01"
		}
		return nil, fmt.Errorf("%s: %w", msg, pool.ErrInvalid)
	}
	return f, nil
}

// address returns where the agent of server number i listens.
func address(port, i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i)) }

// seedPool returns the writes that make the pool: policy and registrations of servers.
func seedPool(f *scenario.File, keys store.Keys, port int) []kv.Op {
	cfg := f.Pool.Config
	cfg.Incarnation = Incarnation
	ops := []kv.Op{keys.PutConfig(cfg)}
	for i, s := range f.Servers {
		srv := sim.Registration(s.ServerSpec, address(port, i))
		srv.InboundLock, srv.Maintenance = s.InboundLock, s.Maintenance
		srv.Awaited = s.Up // so that the first leader does not take those for lost that come a moment later
		ops = append(ops, keys.PutServer(srv))
	}
	return ops
}

// seedVMs returns the writes that register VMs which wait to be started where they belong.
func seedVMs(f *scenario.File, keys store.Keys, now time.Time) []kv.Op {
	var ops []kv.Op
	for _, v := range f.VMs {
		vm := v.VM
		vm.XML, vm.Desired = sim.DomainXML(vm), pool.DesiredRunning
		if !v.Running {
			vm.Desired = pool.DesiredStopped
		}
		ops = append(ops, keys.PutVM(vm), keys.PutClaim(pool.Claim{VM: vm.ID, Phase: pool.PhaseUnassigned,
			LastServer: pool.ServerID(v.On), Since: now, Incarnation: Incarnation}))
	}
	return ops
}
