package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// history is a pool's etcd, revision by revision, of which s2 and s3 are members and s3 leads.
type history struct {
	t    *testing.T
	keys Keys
	rev  pool.Revision
	now  map[string]kv.KeyValue
}

func newHistory(t *testing.T) *history {
	h := &history{t: t, keys: NewKeys("lab"), now: map[string]kv.KeyValue{}}
	v := pool.DefaultVM("a")
	v.MemoryBytes, v.CPUs = 1, 1
	h.write(h.keys.PutConfig(pool.DefaultConfig("lab", life)))
	h.write(h.keys.PutServer(pool.Server{ID: "s2"}), h.keys.PutServer(pool.Server{ID: "s3"}), h.keys.PutVM(v))
	h.write(h.keys.PutMember(pool.Member{Server: "s2", Incarnation: life}, 7)) // session 3
	h.write(h.keys.PutMember(pool.Member{Server: "s3", Incarnation: life}, 8)) // session 4
	h.write(h.keys.PutLeader("s3", 8))
	h.write(h.keys.PutClaim(claimOf("s2", 3, 5, pool.PhaseHeld)))
	return h
}

func claimOf(s pool.ServerID, session pool.Session, epoch pool.Epoch, phase pool.Phase) pool.Claim {
	c := pool.Claim{VM: "a", Server: s, Session: session, Epoch: epoch, Phase: phase, Incarnation: life}
	if phase == pool.PhaseUnassigned {
		c.Server, c.Session = "", 0
	}
	return c
}

// write makes one revision and returns its batch.
func (h *history) write(ops ...kv.Op) kv.Batch {
	h.rev++
	b := kv.Batch{Revision: h.rev}
	for _, op := range ops {
		e := kv.Event{KeyValue: kv.KeyValue{Key: op.Key, Value: op.Value, Lease: op.Lease, ModRevision: h.rev, CreateRevision: h.rev}}
		if was, ok := h.now[op.Key]; ok {
			e.CreateRevision = was.CreateRevision
		}
		if op.Value == nil {
			e.Deleted = true
			delete(h.now, op.Key)
		} else {
			h.now[op.Key] = e.KeyValue
		}
		b.Events = append(b.Events, e)
	}
	return b
}

// ended is what an owner reports with its release.
func (h *history) ended(s pool.ServerID, epoch pool.Epoch) kv.Op {
	return h.keys.PutState(pool.VMState{VM: "a", Server: s, Epoch: epoch, State: pool.RunStopped})
}

// list has f read everything.
func (h *history) list(f *fold) *fold {
	h.t.Helper()
	var all []kv.KeyValue
	for _, e := range h.now {
		all = append(all, e)
	}
	if err := f.list(all, h.rev); err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *history) watcher() *fold { return h.list(newFold(h.keys, life)) }

func (h *history) watch(f *fold, batches ...kv.Batch) {
	h.t.Helper()
	for _, b := range batches {
		if err := f.apply(b); err != nil {
			h.t.Fatal(err)
		}
	}
}

// foreign says what f knows of the claim: "", "seen" or "doubted".
func foreign(f *fold) string {
	e, ok := f.snap.Foreign.Get("claims/a")
	switch {
	case !ok:
		return ""
	case f.snap.Doubted("a") == nil:
		return fmt.Sprintf("seen at %d", e.Revision)
	}
	return fmt.Sprintf("doubted at %d", e.Revision)
}

func expect(t *testing.T, f *fold, want, when string) {
	t.Helper()
	if got := foreign(f); got != want {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

func TestAForgedClaimIsDoubtedUntilTheFormerOneIsWrittenAgain(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	h.watch(f, h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseAssigned))))
	expect(t, f, "doubted at 7", "forged")
	e, _ := f.snap.Foreign.Get("claims/a")
	for _, part := range []string{"it was HELD by s2 (session 3, epoch 5)", "is ASSIGNED by s3 (session 4, epoch 6)", "the session of s2 lives"} {
		if !strings.Contains(e.Text, part) {
			t.Errorf("%q does not say %q", e.Text, part)
		}
	}
	found := h.watcher() // begins to watch when the forged claim is there
	h.watch(f, h.write(h.keys.PutClaim(claimOf("s2", 3, 6, pool.PhaseUnassigned))))
	expect(t, f, "doubted at 7", "let go by a server that believed it")
	if before := f.snap.Doubted("a"); before.Server != "s2" || before.Epoch != 5 {
		t.Errorf("to be written again: %+v", before)
	}
	back := claimOf("s2", 3, 5, pool.PhaseHeld)
	back.Replaces = 8
	h.watch(f, h.write(h.keys.PutClaim(back)))
	expect(t, f, "seen at 7", "written again")
	expect(t, found, "", "a list tells nothing")
}

func TestWhoBeganToWatchAtAForgedClaimTrustsTheLeaderThatReplacesIt(t *testing.T) {
	h := newHistory(t)
	witness := h.watcher()
	forged := h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseAssigned)))
	h.watch(witness, forged)
	late := h.watcher()
	back := claimOf("s2", 3, 5, pool.PhaseHeld)
	back.Replaces = forged.Revision
	restored := h.write(h.keys.PutClaim(back))
	h.watch(late, restored)
	expect(t, late, "", "what it found was replaced")
	h.watch(witness, restored)
	expect(t, witness, "seen at 7", "replaced")
	// Nobody but a leader that has something to replace is believed.
	again := claimOf("s3", 4, 4, pool.PhaseHeld)
	again.Replaces = restored.Revision
	h.watch(witness, h.write(h.keys.PutClaim(again)))
	expect(t, witness, "doubted at 9", "a stranger says that it replaces a claim of Holdfast's")
}

func TestARunUnderAForgedClaimIsHowThingsAre(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	h.watch(f, h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseAssigned))), h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseHeld))))
	expect(t, f, "seen at 7", "s3 began to watch too late to know, and runs it")
}

func TestAClaimGoesWithItsVMOnly(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	gone := h.write(h.keys.DeleteClaim("a"))
	h.watch(f, gone)
	expect(t, f, "doubted at 7", "deleted")
	if before := f.snap.Doubted("a"); before == nil || before.Server != "s2" {
		t.Errorf("to be written again: %+v", before)
	}
	h.watch(f, h.write(h.keys.PutClaim(claimOf("s2", 3, 5, pool.PhaseHeld))))
	expect(t, f, "seen at 7", "written again")

	h = newHistory(t)
	f = h.watcher()
	h.watch(f, h.write(h.keys.PutClaim(claimOf("", 0, 5, pool.PhaseUnassigned)), h.ended("s2", 5)), h.write(h.keys.DeleteClaim("a"), kv.Delete(h.keys.VM("a"))))
	expect(t, f, "", "removed from the pool")
}

func TestEachRevisionOfABatchIsJudgedByItself(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	var b kv.Batch
	for _, one := range []kv.Batch{
		h.write(kv.Delete(h.keys.Member("s2"))),
		h.write(h.keys.PutFence(pool.Fence{Server: "s2", Session: 3, Proof: pool.ProofGuard})),
		h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseAssigned))),
		h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseHeld))),
		h.write(kv.Delete(h.keys.Fence("s2")), kv.Delete(h.keys.Member("s3")), kv.Delete(h.keys.Leader(8))),
	} {
		b.Revision, b.Events = one.Revision, append(b.Events, one.Events...)
	}
	h.watch(f, b)
	expect(t, f, "", "a failover in one batch")
}

func TestWhatWasNotWatchedIsNotJudged(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	h.write(h.keys.PutClaim(claimOf("", 0, 5, pool.PhaseUnassigned)))
	h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseAssigned)))
	h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseHeld)))
	h.list(f) // etcd keeps no history from where this agent was
	expect(t, f, "", "a lawful way that nobody saw")
	h.watch(f, h.write(h.keys.PutClaim(claimOf("", 0, 6, pool.PhaseUnassigned)), h.ended("s3", 6)))
	expect(t, f, "", "and goes on")
}

func TestADoubtOutlivesAListThatFindsTheVeryClaim(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	h.watch(f, h.write(h.keys.PutClaim(claimOf("s3", 4, 6, pool.PhaseAssigned))))
	h.write(h.keys.PutServer(pool.Server{ID: "s9"}))
	h.list(f)
	expect(t, f, "doubted at 7", "the same claim")
	h.write(h.keys.PutClaim(claimOf("s2", 3, 5, pool.PhaseHeld)))
	h.list(f)
	expect(t, f, "seen at 7", "another claim")
}

func TestAServerTellsOnceThatItsSessionWasCutShort(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	cut := pool.Member{Server: "s2", Incarnation: life, CutShort: "session 3 ended 4s before its lease could expire"}
	h.watch(f, h.write(kv.Delete(h.keys.Member("s2"))), h.write(h.keys.PutMember(cut, 9)))
	e, ok := f.snap.Foreign.Get("members/s2")
	if !ok || e.Revision != 8 || e.Server != "s2" || !strings.Contains(e.Text, "before its lease could expire") {
		t.Errorf("reported %+v", e)
	}
	cut.CPUs = 8
	h.watch(f, h.write(h.keys.PutMember(cut, 9)))
	if e, _ := f.snap.Foreign.Get("members/s2"); e.Revision != 8 {
		t.Errorf("reported again at %d", e.Revision)
	}
	if late := h.watcher(); late.snap.Foreign.Len() > 0 {
		t.Errorf("who began to watch later reports %v", late.snap.Foreign.Keys())
	}
}

func TestManyStrangersWritesAreNotKeptForEver(t *testing.T) {
	h := newHistory(t)
	f := h.watcher()
	for i := range 3 * foreignKept {
		id := pool.ServerID(fmt.Sprintf("s%d", 1000+i))
		h.watch(f, h.write(h.keys.PutMember(pool.Member{Server: id, Incarnation: life, CutShort: "so"}, 9)))
	}
	if n := f.snap.Foreign.Len(); n != foreignKept || !f.snap.Foreign.Has(fmt.Sprintf("members/s%d", 999+3*foreignKept)) {
		t.Errorf("%d kept, want the newest %d", n, foreignKept)
	}
}
