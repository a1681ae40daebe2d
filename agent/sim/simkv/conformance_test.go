package simkv

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/pkg/kv/kvtest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// edge opens a simulated etcd for the conformance suite.
func edge(t *testing.T, o Options) kvtest.Edge {
	t.Helper()
	s := vtime.New(11)
	t.Cleanup(s.Close)
	net := simnet.New(s)
	c := New(s, net, o)
	p := s.NewProc("s1", vtime.Timepiece{Boot: time.Hour})
	cl := c.Client(p, "s1")
	return kvtest.Edge{
		Store: cl, Leases: cl, Clock: p,
		Compact: func(_ testing.TB, rev pool.Revision) { c.Compact(rev) },
		Do: func(f func()) {
			ended := false
			p.Go("rule", func() { defer func() { ended = true }(); f() })
			for !ended {
				if ok, err := s.Step(); !ok || err != nil {
					t.Fatalf("the simulation is idle: %v", err)
				}
			}
		},
	}
}

func TestTheSimulatedEtcdDoesWhatAStoreMust(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kvtest.Edge { return edge(t, Options{}) })
}

func TestTheSimulatedEmbeddedEtcdDoesWhatAStoreMust(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kvtest.Edge { return edge(t, Options{Voters: []string{"s1", "s2", "s3"}}) })
}
