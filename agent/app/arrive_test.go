package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestAServerThatJoinedIsNotLostBeforeItsAgentStartedAndIsAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.write(b.keys.PutServer(pool.Server{ID: "srv-2", Address: "127.0.0.1:7401", Awaited: true}))
		first := b.agent(nil)
		end := b.run(first)
		defer func() { _ = end() }()
		b.pass(20 * time.Second)
		if snap := first.Snapshot(); snap.Alerts.Len() != 0 {
			t.Errorf("alerts before its agent ever started: %v", snap.Alerts.Keys())
		}
		if _, why := plan.NewView(first.Snapshot()).Server("srv-2"); why != "it has joined, and its agent has not started yet" {
			t.Errorf("it is said to be: %s", why)
		}
		second := b.agent(func(c *Config, _ *Edges) { c.Server = "srv-2" })
		end2 := b.run(second)
		b.pass(10 * time.Second)
		if s, _ := first.Snapshot().Servers.Get("srv-2"); s.Awaited {
			t.Error("its agent runs, and it is still awaited")
		}
		_ = end2()
		b.pass(20 * time.Second)
		if !first.Snapshot().Alerts.Has("server-lost-srv-2") {
			t.Errorf("its agent is gone, and the alerts are %v", first.Snapshot().Alerts.Keys())
		}
	})
}
