package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// valueFor draws a value for a kind of key: mostly a record of that kind, sometimes of another name, sometimes rubbish.
func valueFor(t *rapid.T, k Keys, name string) kv.Op {
	at := time.Unix(rapid.Int64Range(1, 99).Draw(t, "at"), 0).UTC()
	vm, server := pool.VMID(name), pool.ServerID(name)
	op := rapid.SampledFrom([]func() kv.Op{
		func() kv.Op { return k.PutServer(pool.Server{ID: server, Address: at.String()}) },
		func() kv.Op { return k.PutMember(pool.Member{Server: server, Since: at, Incarnation: life}, 7) },
		func() kv.Op { return k.PutMember(pool.Member{Server: server, Since: at}, 0) },
		func() kv.Op { return k.PutLeader(server, kv.LeaseID(at.Unix()%3+1)) },
		func() kv.Op {
			return k.PutRoster(pool.Roster{Standing: map[pool.ServerID]pool.Standing{server: pool.StandingPending}})
		},
		func() kv.Op {
			v := pool.DefaultVM(vm)
			v.MemoryBytes, v.CPUs = at.Unix(), 1
			return k.PutVM(v)
		},
		func() kv.Op { return k.PutClaim(heldClaim(vm, "srv-1", pool.Session(at.Unix()))) },
		func() kv.Op {
			c := heldClaim(vm, "srv-1", 5)
			c.Incarnation = "another"
			return k.PutClaim(c)
		},
		func() kv.Op { return k.PutState(pool.VMState{VM: vm, Since: at}) },
		func() kv.Op { return k.PutHome(pool.Home{VM: vm, Server: server}) },
		func() kv.Op { return k.PutFence(pool.Fence{Server: server, At: at}) },
		func() kv.Op { return k.PutAlert(pool.Alert{ID: pool.AlertID(name), Since: at}) },
		func() kv.Op {
			return k.PutOperation(pool.Operation{ID: pool.OperationID(name), Kind: pool.OperationStart, Outcome: pool.OutcomeDone})
		},
		func() kv.Op { return k.PutEvent(pool.Event{ID: pool.EventID(name), At: at}) },
		func() kv.Op { return k.PutIncident(pool.Incident{ID: pool.IncidentID(name), Began: at}) },
		func() kv.Op { return k.PutSecret(vm, []byte("hush")) },
	}).Draw(t, "kind")()
	switch rapid.IntRange(0, 9).Draw(t, "spoil") {
	case 0:
		op.Value = []byte(rapid.SampledFrom([]string{"", "null", "{", `{"vm":7}`, `{"phase":"CLAIM_PHASE_FUTURE"}`, "\xff", `{"id":"other"}`}).Draw(t, "rubbish"))
	case 1:
		op = kv.Delete(op.Key)
	}
	return op
}

// TestFoldingEventsGivesWhatAListGives: a mirror that has watched from the beginning and one that starts now agree.
func TestFoldingEventsGivesWhatAListGives(t *testing.T) {
	synctest.Test(t, foldingGivesWhatAListGives) // a quiet watch waits in virtual time
}

// inBubble hides the test's deadline, which may not be asked for in virtual time.
type inBubble struct{ *testing.T }

func foldingGivesWhatAListGives(t *testing.T) {
	rapid.Check(inBubble{t}, func(r *rapid.T) {
		b := newBench(t)
		if _, err := b.mem.Grant(t.Context(), pool.MaxTTL); err != nil {
			r.Fatal(err)
		}
		for range 6 {
			_, _ = b.mem.Grant(t.Context(), pool.MaxTTL)
		}
		watching := newFold(b.keys, life)
		if err := b.store.load(t.Context(), watching); err != nil {
			r.Fatal(err)
		}
		w, err := b.mem.Watch(t.Context(), b.keys.Prefix(), watching.snap.Revision+1)
		if err != nil {
			r.Fatal(err)
		}
		defer w.Close()
		for range rapid.IntRange(1, 30).Draw(r, "writes") {
			name := rapid.SampledFrom([]string{"a", "b", "c", "bad name", "x/y"}).Draw(r, "name")
			b.commit(valueFor(r, b.keys, name))
			if rapid.Bool().Draw(r, "watch now") {
				follow(r, w, watching)
			}
		}
		follow(r, w, watching)
		listing := newFold(b.keys, life)
		if err := b.store.load(t.Context(), listing); err != nil {
			r.Fatal(err)
		}
		watching.snap.Foreign = pool.Table[string, pool.Foreign]{} // how values came about, which no list tells
		if diff := differ(watching.snap, listing.snap); diff != "" {
			r.Fatalf("watched and listed differ in %s", diff)
		}
	})
}

func follow(r *rapid.T, w kv.Watcher, f *fold) {
	b, err := w.Next(r.Context())
	if err == nil {
		err = f.apply(b)
	}
	if err != nil {
		r.Fatal(err)
	}
}

// differ names the first field in which two snapshots differ, with both values.
func differ(a, b *pool.Snapshot) string {
	va, vb := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range va.NumField() {
		fa, fb := plain(va.Field(i)), plain(vb.Field(i))
		if !reflect.DeepEqual(fa, fb) {
			return fmt.Sprintf("%s:\n%+v\n%+v", va.Type().Field(i).Name, fa, fb)
		}
	}
	return ""
}

// plain turns a table into something that does not depend on its chunks.
func plain(v reflect.Value) any {
	all := v.MethodByName("All")
	if !all.IsValid() {
		return v.Interface()
	}
	out := map[any]any{}
	for k, e := range all.Call(nil)[0].Seq2() {
		out[k.Interface()] = e.Interface()
	}
	return out
}

func TestACorruptClaimIsThereAndPermitsNothing(t *testing.T) {
	b := newBench(t)
	for name, value := range map[string]string{
		"broken":           `{"vm":"a","server":`,
		"of another VM":    `{"vm":"b","server":"srv-1","session":"5","epoch":"1","phase":"CLAIM_PHASE_HELD"}`,
		"of a later phase": `{"vm":"a","server":"srv-1","session":"5","epoch":"1","phase":"CLAIM_PHASE_SUSPENDED"}`,
		"without session":  `{"vm":"a","server":"srv-1","epoch":"1","phase":"CLAIM_PHASE_HELD"}`,
		"of another life":  `{"vm":"a","phase":"CLAIM_PHASE_UNASSIGNED","incarnation":"22222222-2222-2222-2222-222222222222"}`,
		"empty":            ``,
	} {
		rev := b.commit(kv.Put(b.keys.Claim("a"), []byte(value)))
		b.commit(b.keys.PutClaim(heldClaim("z", "srv-1", 5)))
		snap, err := b.store.Load(t.Context(), life)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, ok := snap.Claims.Get("a")
		reason, _ := snap.Corrupt.Get(b.keys.Claim("a"))
		if !ok || c.Readable() || c.Server != "" || c.Revision != rev || reason == "" {
			t.Errorf("%s: claim %+v, %v, reason %q", name, c, ok, reason)
		}
		if z, _ := snap.Claims.Get("z"); !z.Readable() || snap.Corrupt.Len() != 1 {
			t.Errorf("%s: it did not stay alone: %+v, %v", name, z, snap.Corrupt.Keys())
		}
		if name == "of another life" {
			continue // only the mirror knows which life is right
		}
		var corrupt *CorruptError
		if _, ok, err := b.store.ReadClaim(t.Context(), "a"); ok || !errors.As(err, &corrupt) || corrupt.Key != b.keys.Claim("a") {
			t.Errorf("%s: read %v, %v", name, ok, err)
		}
	}
}

func TestAReadableValueEndsTheReport(t *testing.T) {
	b := newBench(t)
	f := newFold(b.keys, life)
	step := func(op kv.Op) *pool.Snapshot {
		t.Helper()
		b.commit(op)
		if err := b.store.load(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		return f.snap
	}
	if snap := step(kv.Put(b.keys.VM("a"), []byte("{"))); snap.Corrupt.Len() != 1 {
		t.Errorf("corrupt: %v", snap.Corrupt.Keys())
	}
	if vm, ok := f.snap.VMs.Get("a"); !ok || vm.Readable() {
		t.Errorf("got %+v, %v, want a placeholder", vm, ok)
	}
	if snap := step(kv.Delete(b.keys.VM("a"))); snap.Corrupt.Len() != 0 || snap.VMs.Has("a") {
		t.Errorf("after its deletion: corrupt %v", snap.Corrupt.Keys())
	}
}

func TestAMemberThatCannotBeReadStillLives(t *testing.T) {
	b := newBench(t)
	lease, _ := b.mem.Grant(t.Context(), pool.MaxTTL)
	rev := b.commit(kv.PutLeased(b.keys.Member("srv-1"), []byte("{"), lease))
	snap, err := b.store.Load(t.Context(), life)
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := snap.Members.Get("srv-1"); !snap.Alive("srv-1", pool.Session(rev)) || m.MemoryBytes != 0 || m.Guard {
		t.Errorf("got %+v", m)
	}
}

func TestAnUnreadableConfigFreezesOrKeepsTheLastOne(t *testing.T) {
	b := newBench(t)
	c := pool.DefaultConfig("lab", life)
	c.HA, c.Tolerate = true, 2
	b.commit(b.keys.PutConfig(c))
	f := newFold(b.keys, life)
	if err := b.store.load(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	rev := b.commit(kv.Put(b.keys.Config(), []byte(`{"name":`)))
	if err := b.store.load(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got := f.snap.Config; !got.HA || got.Frozen || got.Tolerate != 2 || got.Revision != rev {
		t.Errorf("a running mirror: got %+v, want the last good one at %d", got, rev)
	}
	fresh, err := b.store.Load(t.Context(), life)
	if err != nil {
		t.Fatal(err)
	}
	if got := fresh.Config; !got.Frozen || fresh.Corrupt.Len() != 1 {
		t.Errorf("a new mirror: got %+v, want a frozen pool", got)
	}
}

func TestAnUnreadableRosterLetsNobodyLead(t *testing.T) {
	b := newBench(t)
	b.commit(kv.Put(b.keys.Roster(), []byte(`{"standing":{"srv-1":"STANDING_IN_FORCE","srv-2":"STANDING_RESIGNED"}}`)))
	snap, err := b.store.Load(t.Context(), life)
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Roster.Standing) == 0 {
		t.Fatal("an empty roster would let a failsafe round succeed with nobody asked")
	}
	for s, standing := range snap.Roster.Standing {
		if standing == pool.StandingInForce || pool.CheckName("server", string(s)) == nil {
			t.Errorf("%s is %v", s, standing)
		}
	}
}

func TestFieldsOfANewerAgentDoNoHarm(t *testing.T) {
	b := newBench(t)
	b.commit(kv.Put(b.keys.Claim("a"), []byte(`{"vm":"a","phase":"CLAIM_PHASE_UNASSIGNED","epoch":"3","colour":"blue","shape":{"phase":"ROUND"}}`)))
	c, ok, err := b.store.ReadClaim(t.Context(), "a")
	if err != nil || !ok || c.Epoch != 3 {
		t.Errorf("got %+v, %v, %v", c, ok, err)
	}
}

func TestReasonsAreShortAndPrintable(t *testing.T) {
	b := newBench(t)
	b.commit(kv.Put(b.keys.Claim("a"), []byte(`{"phase":"`+strings.Repeat("x\\u001b[2J", 1000)+`"}`)))
	_, _, err := b.store.ReadClaim(t.Context(), "a")
	if err == nil || len(err.Error()) > 300 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %q", err)
	}
}

func TestValuesAreTheSameBytesInEveryBuild(t *testing.T) {
	k := NewKeys("lab")
	got := k.PutClaim(pool.Claim{VM: "a", Server: "srv-1", Session: 5, Epoch: 2, Phase: pool.PhaseHeld, Armed: true, Watchdog: 10 * time.Second,
		Since: time.Unix(0, 0).UTC(), Incarnation: life})
	want := `{"vm":"a","server":"srv-1","session":"5","epoch":"2","phase":"CLAIM_PHASE_HELD","armed":true,"watchdog":"10s","incarnation":"` + life + `","since":"1970-01-01T00:00:00Z"}`
	if got.Key != "/holdfast/v1/lab/claims/a" || string(got.Value) != want {
		t.Errorf("got %s = %s\nwant %s", got.Key, got.Value, want)
	}
}

func TestEventIDsSortByTimeThenServerThenCounter(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 891_000, time.UTC)
	ids := []pool.EventID{
		EventID(at, "srv-1", 9), EventID(at, "srv-1", 10), EventID(at, "srv-2", 0),
		EventID(at.Add(time.Microsecond), "srv-1", 0), EventID(at.Add(time.Hour).In(time.FixedZone("x", 7200)), "a", 0),
	}
	for i := 1; i < len(ids); i++ {
		if ids[i-1] >= ids[i] {
			t.Errorf("%s is not before %s", ids[i-1], ids[i])
		}
	}
	if want := pool.EventID("20260304T050607.000891-srv-1-000009"); ids[0] != want {
		t.Errorf("got %s, want %s", ids[0], want)
	}
}

func TestKeysAreAsDocumented(t *testing.T) {
	k := NewKeys("lab")
	for want, got := range map[string]string{
		"config": k.Config(), "roster": k.Roster(), "servers/s": k.Server("s"), "members/s": k.Member("s"),
		"leader/7eaf": k.Leader(0x7eaf), "vms/v": k.VM("v"), "claims/v": k.Claim("v"), "states/v": k.State("v"),
		"homes/v": k.Home("v"), "fences/s": k.Fence("s"), "alerts/a": k.Alert("a"), "secrets/v": k.Secret("v"),
		"tokens/t": k.Token("t"), "operations/o": k.Operation("o"), "events/e": k.Event("e"),
		"incidents/i": k.Incident("i"),
	} {
		if got != "/holdfast/v1/lab/"+want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
