package lease_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/lease/leasetest"
)

func TestASessionThatEndsBeforeItsLeaseCanExpireWasCutShort(t *testing.T) {
	for name, cut := range map[string]func(r *rig, a interface{ Recheck() }){
		"its key is deleted": func(r *rig, a interface{ Recheck() }) { r.etcd.Remove(r.memberKey()); a.Recheck() },
		"its key is deleted and nobody told it": func(r *rig, a interface{ Recheck() }) {
			r.etcd.Remove(r.memberKey())
			r.sleep(3 * time.Second)
			a.Recheck()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				a := r.start()
				r.sleep(1500 * time.Millisecond)
				before := r.session(a)
				if got := a.CutShort(); got != "" {
					t.Errorf("the first session was cut short: %s", got)
				}
				cut(r, a)
				r.sleep(500 * time.Millisecond)
				if r.session(a).Session == before.Session {
					t.Fatal("the session goes on")
				}
				if got := a.CutShort(); !strings.Contains(got, "before its lease could expire") {
					t.Errorf("told %q", got)
				}
			})
		})
	}
}

func TestARevokedLeaseCutsASessionShort(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(1500 * time.Millisecond)
		before := r.session(a)
		if err := r.client.Revoke(context.Background(), before.LeaseID); err != nil {
			t.Fatal(err)
		}
		r.sleep(1500 * time.Millisecond)
		if got := a.CutShort(); r.session(a).Session == before.Session || !strings.Contains(got, "its lease has ended in etcd") {
			t.Errorf("told %q", got)
		}
	})
}

func TestALeaseThatExpiredCutNoSessionShort(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.start()
		r.sleep(1500 * time.Millisecond)
		r.etcd.Remove(r.memberKey())
		a.Recheck()
		r.sleep(time.Second)
		if a.CutShort() == "" {
			t.Error("a session that was cut short is not told of")
		}
		before := r.session(a)
		r.client.SetFault(leasetest.Cut)
		r.sleep(ttl + time.Second)
		r.client.SetFault(nil)
		r.sleep(2 * time.Second)
		if got := a.CutShort(); r.session(a).Session == before.Session || got != "" {
			t.Errorf("told %q", got)
		}
	})
}
