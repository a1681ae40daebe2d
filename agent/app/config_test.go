package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestAnAgentOutlivesADeletedConfigAndWritesItAnewWhenHAIsUnfrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		a := b.agent(nil)
		end := b.run(a)
		b.pass(5 * time.Second)
		session := a.Session()
		b.write(kv.Delete(b.keys.Config()))
		b.pass(30 * time.Second)
		if a.Session() != session || session == 0 {
			t.Errorf("its session is %d, was %d", a.Session(), session)
		}
		if !a.Snapshot().Alerts.Has("corrupt-prod-config") {
			t.Errorf("no alert names the key: %v", a.Snapshot().Alerts.Keys())
		}
		ctx := rpc.WithIdentity(t.Context(), pki.Identity{Name: "kim", Role: pki.RoleAdmin})
		if _, err := a.API().SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: false}); err != nil {
			t.Fatal(err)
		}
		b.pass(5 * time.Second)
		if c := a.Snapshot().Config; c.Frozen || c.Revision == 0 || c.Incarnation != life || a.Snapshot().Alerts.Has("corrupt-prod-config") {
			t.Errorf("after unfreezing: %+v, alerts %v", c, a.Snapshot().Alerts.Keys())
		}
		if err := end(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
}
