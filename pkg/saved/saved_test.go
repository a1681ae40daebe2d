package saved

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const life = "11111111-0000-4000-8000-000000000000"

// sample is a pool of two servers and one VM.
func sample() *pool.Snapshot {
	cfg := pool.DefaultConfig("prod", life)
	cfg.Revision = 2
	at := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	vm := pool.VM{ID: "web", UUID: "20f38566-0acd-4ac5-8cc1-b673924f16a8", XML: "<domain/>", MemoryBytes: 1 << 30, CPUs: 2, HA: true,
		Priority: pool.PriorityMedium, Window: 10 * time.Minute, Desired: pool.DesiredRunning, Revision: 12}
	return &pool.Snapshot{Revision: 40, Config: cfg,
		Servers: pool.NewTable(map[pool.ServerID]pool.Server{"srv-1": {ID: "srv-1", Address: "10.0.0.1:7400", Revision: 3}, "srv-2": {ID: "srv-2", Address: "10.0.0.2:7400", Revision: 5}}),
		VMs:     pool.NewTable(map[pool.VMID]pool.VM{"web": vm}),
		Claims: pool.NewTable(map[pool.VMID]pool.Claim{"web": {VM: "web", Server: "srv-2", Session: 9, Epoch: 4, Phase: pool.PhaseHeld, Armed: true,
			LastServer: "srv-2", Incarnation: life, Since: at, Revision: 39}}),
		Homes: pool.NewTable(map[pool.VMID]pool.Home{"web": {VM: "web", Failures: []pool.Failure{{Server: "srv-1", Cause: pool.CauseCrashed, At: at, Detail: "QEMU crashed"}}, Revision: 20}}),
		Revocations: pool.NewTable(map[pool.RevocationID]pool.Revocation{pool.RevokedSerial("0a"): {ID: pool.RevokedSerial("0a"),
			Revoked: pool.Mark{By: "root", At: at, Why: "left"}, Revision: 21}}),
	}
}

func TestACopySaysWhatTheStoreSaid(t *testing.T) {
	want, ok := Of(sample())
	if !ok {
		t.Fatal("no copy of a sound pool")
	}
	want.Server, want.At, want.Version, want.Voters = "srv-1", time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC), "1.2", []string{"srv-1", "srv-2"}
	path := filepath.Join(t.TempDir(), "state.json")
	if err := Write(path, want); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(got)
	first, _ := Encode(want)
	if err != nil || string(again) != string(first) {
		t.Errorf("written again it differs: %v\n%s\n%s", err, first, again)
	}
	c, _ := got.Claims.Get("web")
	w, _ := want.Claims.Get("web")
	w.Revision = 0 // of the key, not of the record
	if !reflect.DeepEqual(c, w) {
		t.Errorf("claim %+v, want %+v", c, w)
	}
	if got.Revision != 40 || got.Incarnation != life || !got.At.Equal(want.At) || !reflect.DeepEqual(got.Voters, want.Voters) {
		t.Errorf("head %+v", got)
	}
	if v, _ := got.VMs.Get("web"); v.XML != "<domain/>" || v.Desired != pool.DesiredRunning || !v.HA {
		t.Errorf("vm %+v", v)
	}
	if s, _ := got.Servers.Get("srv-2"); s.Address != "10.0.0.2:7400" {
		t.Errorf("server %+v", s)
	}
	if got.Homes.Len() != 1 || got.Revocations.Len() != 1 {
		t.Error("counted failures or revocations are missing")
	}
}

func TestAPoolThatCannotBeReadInPartIsNotSaved(t *testing.T) {
	s := sample()
	s.Corrupt = s.Corrupt.With("/holdfast/v1/prod/claims/web", "no JSON")
	if _, ok := Of(s); ok {
		t.Error("a copy without a record that is there")
	}
	if _, ok := Of(&pool.Snapshot{}); ok {
		t.Error("a copy of nothing")
	}
	s = sample()
	s.Config.Revision = 0
	if _, ok := Of(s); ok {
		t.Error("a copy of a pool whose policy was deleted")
	}
}

func TestOnlyTheNewestCopyOfTheNewestLifeCounts(t *testing.T) {
	states := []State{{Incarnation: "old", Revision: 900}, {Incarnation: "new", Revision: 7}, {Incarnation: "new", Revision: 9}, {Incarnation: "other", Revision: 5000}}
	if got := Newest(states, []string{"new", "old"}); got != 2 {
		t.Errorf("copy %d, want 2", got)
	}
	if got := Newest(states, []string{"unborn", "old"}); got != 0 {
		t.Errorf("copy %d, want 0", got)
	}
	if got := Newest(states, []string{"unborn"}); got != -1 {
		t.Errorf("copy %d of another pool's life", got)
	}
}

func TestADamagedDocumentIsRefusedWithTheReason(t *testing.T) {
	s, _ := Of(sample())
	data, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for name, c := range map[string]struct{ data, says string }{
		"cut":             {good[:len(good)/2], "not a saved state"},
		"empty":           {"", "not a saved state"},
		"later":           {strings.Replace(good, `"format": 1`, `"format": 2`, 1), "format 2"},
		"no format":       {strings.Replace(good, `"format": 1,`, ``, 1), "format 0"},
		"unknown field":   {strings.Replace(good, `"format": 1,`, `"format": 1, "hope": true,`, 1), "hope"},
		"other life":      {strings.Replace(good, life, "22222222-0000-4000-8000-000000000000", 1), "whose it is"},
		"claim of no VM":  {strings.Replace(good, `"vm": "web",`+"\n"+`   "server"`, `"vm": "wob",`+"\n"+`   "server"`, 1), "wob"},
		"nobody's claim":  {strings.Replace(good, "CLAIM_PHASE_HELD", "CLAIM_PHASE_UNASSIGNED", 1), "unassigned"},
		"unknown phase":   {strings.Replace(good, "CLAIM_PHASE_HELD", "CLAIM_PHASE_MAYBE", 1), "CLAIM_PHASE_MAYBE"},
		"revision before": {strings.Replace(good, `"revision": "40"`, `"revision": "-1"`, 1), "whose it is"},
	} {
		if c.data == good {
			t.Fatalf("%s: nothing was damaged:\n%s", name, good)
		}
		_, err := Decode([]byte(c.data))
		if !errors.Is(err, pool.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
}

func TestWhatDoesNotBelongIntoACopyDoesNotMakeANewOne(t *testing.T) {
	a, b := sample(), sample()
	b.VMs, b.Servers, b.Claims, b.Homes, b.Revocations = a.VMs, a.Servers, a.Claims, a.Homes, a.Revocations
	b.Revision, b.Members = 41, b.Members.With("srv-1", pool.Member{Server: "srv-1"})
	if !Same(a, b) {
		t.Error("a member's presence makes a new copy")
	}
	b.Claims = a.Claims.With("web", pool.Claim{VM: "web"})
	if Same(a, b) {
		t.Error("a changed claim makes no new copy")
	}
	b.Claims = a.Claims.Without("web")
	if Same(a, b) {
		t.Error("a removed claim makes no new copy")
	}
}

func FuzzADocumentIsReadOrRefused(f *testing.F) {
	s, _ := Of(sample())
	data, err := Encode(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}
