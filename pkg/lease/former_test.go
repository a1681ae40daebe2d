package lease_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const machineUUID = "4c4c4544-0051-3610-8052-b7c04f4a3532"

// handedOver is a machine whose agent was stopped as planned and which then lost power.
func handedOver(t *testing.T, r *rig, path string) (session kv.KeyValue) {
	t.Helper()
	r.former = lease.FormerState{Path: path, BootID: "boot-1", HostUUID: machineUUID}
	a := r.start()
	r.sleep(time.Second)
	if err := a.Handover(t.Context(), grace); err != nil {
		t.Fatal(err)
	}
	r.sleep(5 * time.Second)
	r.state = &stateFake{} // /run is gone
	key, ok := r.etcd.Peek(r.memberKey())
	if !ok {
		t.Fatal("no member key")
	}
	return key
}

func TestALaterBootOfTheSameMachineEndsTheSessionThatWasHandedOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handed-over.json")
	inBubble(t, func(t *testing.T, r *rig) {
		before := handedOver(t, r, path)
		r.former = lease.FormerState{Path: path, BootID: "boot-2", HostUUID: machineUUID}
		b := r.start()
		r.sleep(time.Second)
		if now := r.session(b).Session; pool.Revision(now) <= before.CreateRevision {
			t.Errorf("session %d after %d: it is not a new one", now, before.CreateRevision)
		}
	})
}

func TestNobodyElseEndsASessionThatWasHandedOver(t *testing.T) {
	for name, former := range map[string]lease.FormerState{
		"the same boot":             {BootID: "boot-1", HostUUID: machineUUID},
		"another machine":           {BootID: "boot-2", HostUUID: "4c4c4544-0051-3610-8052-b7c04f4a3533"},
		"a machine without a name":  {BootID: "boot-2"},
		"a boot without a name":     {HostUUID: machineUUID},
		"a name that boards share":  {BootID: "boot-2", HostUUID: "03000200-0400-0500-0006-000700080009"},
		"a name of nothing but f's": {BootID: "boot-2", HostUUID: "ffffffff-ffff-ffff-ffff-ffffffffffff"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "handed-over.json")
			inBubble(t, func(t *testing.T, r *rig) {
				before := handedOver(t, r, path)
				former.Path = path
				r.former = former
				b := r.start()
				r.sleep(time.Second)
				if now, ok := r.etcd.Peek(r.memberKey()); !ok || now.CreateRevision != before.CreateRevision {
					t.Error("the session was ended")
				}
				if _, ok := b.Current(); ok {
					t.Error("it has a session beside the one that it must wait for")
				}
			})
		})
	}
}

func TestASessionThatWasRenewedSinceIsNotEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handed-over.json")
	inBubble(t, func(t *testing.T, r *rig) {
		r.former = lease.FormerState{Path: path, BootID: "boot-1", HostUUID: machineUUID}
		a := r.start()
		r.sleep(time.Second)
		if err := a.Handover(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		r.start() // the update is done, and the key is back on a short lease
		r.sleep(5 * time.Second)
		before, _ := r.etcd.Peek(r.memberKey())
		r.state = &stateFake{}
		r.former = lease.FormerState{Path: path, BootID: "boot-2", HostUUID: machineUUID}
		r.start()
		r.sleep(time.Second)
		if now, ok := r.etcd.Peek(r.memberKey()); !ok || now.CreateRevision != before.CreateRevision {
			t.Error("a session on another lease than the one that was handed over was ended")
		}
	})
}

func TestAHandedOverSessionThatCannotBeReadIsWaitedFor(t *testing.T) {
	f := lease.FormerState{Path: filepath.Join(t.TempDir(), "none", "handed-over.json"), BootID: "b", HostUUID: machineUUID}
	if _, ok, err := f.Load(); ok || err != nil {
		t.Errorf("Load = %v, %v without a file", ok, err)
	}
	if err := f.Save(lease.State{}); err == nil {
		t.Error("Save into a folder that does not exist succeeded")
	}
}
