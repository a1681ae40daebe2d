package sim

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const threeServers = "servers s1 s2 s3\nleader s1\nvm web on=s2\nvm raw on=s2 disks=block\nat 30s expect web running\n"

// tamper plays a quiet scenario in which something happens behind everybody's back, and returns what the checker says.
func tamper(t *testing.T, do func(p *Pool)) string {
	t.Helper()
	p := settled(t, threeServers)
	p.Sched.After(5*time.Second, func() { do(p) })
	err := p.Play(NewChecker(p))
	if err == nil {
		return ""
	}
	return err.Error()
}

// rogue writes to etcd as a process that obeys no rule.
func rogue(p *Pool, op kv.Op) {
	proc := p.World.Server("s3").NewProc("rogue")
	cl := p.Etcd.Client(proc, "s3")
	proc.Go("rogue", func() { _, _ = cl.Txn(context.Background(), kv.Txn{Then: []kv.Op{op}}) })
}

func TestTheCheckerBites(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*Pool)
		want string
	}{
		"nothing wrong": {func(*Pool) {}, ""},
		"a second copy": {func(p *Pool) { p.World.Place("raw", "s1", nil) }, "invariant 1"},
		"a claim taken without a fence": {func(p *Pool) {
			c, _ := p.truth.snapshot().Claims.Get("web")
			c.Server, c.Phase = "", pool.PhaseUnassigned
			c.Session = 0
			rogue(p, p.Keys.PutClaim(c))
		}, "invariant 2"},
		"an assignment without the leader's revision": {func(p *Pool) {
			c, _ := p.truth.snapshot().Claims.Get("web")
			m, _ := p.truth.snapshot().Members.Get("s3")
			c.Server, c.Session, c.Phase, c.Epoch = "s3", m.Session, pool.PhaseAssigned, c.Epoch+1
			rogue(p, p.Keys.PutClaim(c))
		}, "invariant 3"},
		"a wish that nobody had": {func(p *Pool) {
			v, _ := p.truth.snapshot().VMs.Get("web")
			v.Desired = pool.DesiredStopped
			rogue(p, p.Keys.PutVM(v))
		}, "invariant 7"},
		"pool HA switched off by itself": {func(p *Pool) {
			cfg := p.truth.snapshot().Config
			cfg.HA = false
			rogue(p, p.Keys.PutConfig(cfg))
		}, "invariant 7"},
		"a VM forgotten":               {func(p *Pool) { rogue(p, p.Keys.DeleteVM("web")) }, "invariant 7"},
		"a VM that dies for no reason": {func(p *Pool) { p.World.Crash("web") }, "invariant 8"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tamper(t, c.do); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("the checker says %q, want %q", got, c.want)
			}
		})
	}
}

func TestAVMThatStaysDownThoughAServerCouldRunItBreaksItsBound(t *testing.T) {
	p := settled(t, "servers s1 s2 s3\nleader s1\nvm web on=s2\nat 90s expect web waiting\n")
	check := NewChecker(p)
	p.Sched.After(5*time.Second, func() {
		check.Fault(scenario.Statement{Verb: "vm crash", VM: "web"})
		// The owner's agent is alive, but its libvirt silently does nothing any more: its starts never return.
		p.World.SetRates(time.Hour, 1)
		p.World.Crash("web")
	})
	err := p.Play(check)
	if err == nil || !strings.Contains(err.Error(), "invariant 6") {
		t.Errorf("err = %v", err)
	}
}
