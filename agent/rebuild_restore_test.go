package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

func vmOf(id pool.VMID) pool.VM {
	vm := pool.DefaultVM(id)
	vm.UUID, vm.XML, vm.MemoryBytes, vm.CPUs, vm.HA, vm.Desired = uuidOf(id), "<domain/>", 1<<30, 1, true, pool.DesiredRunning
	return vm
}

func runningOn(vm pool.VMID, server pool.ServerID, epoch pool.Epoch) pool.Claim {
	return pool.Claim{VM: vm, Server: server, Session: 7, Epoch: epoch, Phase: pool.PhaseHeld, Armed: true, LastServer: server, Incarnation: oldLife, Since: time.Unix(1, 0).UTC()}
}

func registered(k store.Keys, c pool.Claim) []kv.Op {
	return []kv.Op{k.PutVM(vmOf(c.VM)), k.PutClaim(c)}
}

// claimed fails unless a VM's claim is as it should be after a rebuild.
func claimed(t *testing.T, snap *pool.Snapshot, vm pool.VMID, server pool.ServerID, epoch pool.Epoch) {
	t.Helper()
	c, ok := snap.Claims.Get(vm)
	if !ok || c.Server != server || c.Epoch != epoch || c.Incarnation != snap.Config.Incarnation || c.Armed || c.Session > pool.FormerLife {
		t.Errorf("claim of %s: %+v; want %q at epoch %d", vm, c, server, epoch)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("it does not say %q", p)
		}
	}
}

func TestPoolOfWhichOnlyABackupIsLeftIsRestoredAndWhatRunsGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2, "", func(k store.Keys) []kv.Op {
		return slices.Concat(registered(k, runningOn("web", "srv-2", 4)), registered(k, runningOn("db", "srv-1", 1)))
	})
	s.server(2).runs("web", 4)
	file := filepath.Join(t.TempDir(), "prod.json")
	out, err := s.server(1).command(backupCommand, file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, out, "2 servers, 2 VMs", "from etcd")
	before := s.state()
	s.destroyed()
	for _, m := range s.servers {
		m.stopAgent()
		if err := os.RemoveAll(setup.CopyFile(m.cfg.StateDir)); err != nil {
			t.Fatal(err)
		}
		m.startAgent()
	}
	// Without the file there is nothing to rebuild from.
	if _, err := s.server(2).command(rebuildCommand, "--yes"); err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("a rebuild from nothing: %v", err)
	}
	out, err = s.server(2).command(restoreCommand, file, "--yes")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, out, "restored from "+file, "runs on srv-2", "runs nowhere", "is rebuilt")
	s.follows(s.servers...)
	after := s.state()
	if after.Config.Incarnation == oldLife || after.Revision <= before.Revision || after.Servers.Len() != 2 || after.VMs.Len() != 2 || after.Corrupt.Len() != 0 {
		t.Errorf("restored: %+v", after)
	}
	claimed(t, after, "web", "srv-2", 4)
	claimed(t, after, "db", "", 2)
	for i, life := range s.origins() {
		if life != after.Config.Incarnation {
			t.Errorf("srv-%d belongs to life %s", i+1, life)
		}
	}
	// It is a pool as any other: it is backed up, and refuses to be restored over.
	if _, err := s.server(1).command(backupCommand, file); err != nil {
		t.Error(err)
	}
	if _, err := s.server(1).command(restoreCommand, file, "--yes"); err == nil || !strings.Contains(err.Error(), "etcd answers and holds a pool prod") {
		t.Errorf("over a pool that is there: %v", err)
	}
}

func TestAnOlderBackupThanWhatRunsTakesNoEpochBackAndStartsNothingTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, "", func(k store.Keys) []kv.Op {
		return slices.Concat(registered(k, runningOn("stay", "srv-1", 4)), registered(k, runningOn("move", "srv-1", 2)),
			registered(k, runningOn("goes", "srv-2", 3)), registered(k, runningOn("hot", "srv-3", 5)))
	})
	s.server(1).runs("stay", 4)
	s.server(1).runs("move", 2)
	s.server(2).runs("goes", 3)
	s.server(3).runs("hot", 5)
	file := filepath.Join(t.TempDir(), "old.json")
	if _, err := s.server(1).command(backupCommand, file); err != nil {
		t.Fatal(err)
	}
	k := store.NewKeys("prod")
	s.server(1).ends("move")
	s.server(2).ends("goes")
	s.server(2).runs("move", 3)
	s.server(3).runs("late", 1)
	revoked := pool.RevokedSerial("0a")
	rev := s.commit(slices.Concat(registered(k, runningOn("late", "srv-3", 1)), registered(k, pool.Claim{VM: "idle", Epoch: 2, Phase: pool.PhaseUnassigned,
		Cause: pool.CauseStopped, Detail: "stopped by kim", Incarnation: oldLife}), []kv.Op{k.PutClaim(runningOn("move", "srv-2", 3)), kv.Delete(k.VM("goes")), kv.Delete(k.Claim("goes")),
		k.PutRevocation(pool.Revocation{ID: revoked, Revoked: pool.Mark{By: "kim", At: time.Unix(2, 0).UTC(), Why: "lost"}})})...)
	s.copied(rev)
	s.destroyed()
	// It moved once more, and nobody has seen that.
	s.server(3).ends("hot")
	s.server(2).runs("hot", 6)
	out, err := s.server(3).command(restoreCommand, file, "--yes")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, out, "OLDER than the copy of", "NOT restored: idle, late.", "late on srv-3", "registered again: goes.", "stays stopped")
	s.follows(s.servers...)
	snap := s.state()
	claimed(t, snap, "stay", "srv-1", 4)
	claimed(t, snap, "move", "srv-2", 3)
	claimed(t, snap, "hot", "srv-2", 6)
	claimed(t, snap, "goes", "", 4)
	if goes, _ := snap.VMs.Get("goes"); goes.Desired != pool.DesiredStopped {
		t.Errorf("a VM that was removed after the backup is started: %+v", goes)
	}
	if snap.VMs.Has("late") || snap.VMs.Has("idle") || !snap.Revocations.Has(revoked) {
		t.Errorf("VMs %v, revocations %v", snap.VMs.Keys(), snap.Revocations.Keys())
	}
	if snap.Revision <= rev+900_000 {
		t.Errorf("revisions may repeat: %d after %d", snap.Revision, rev)
	}
}

// A server is off while the pool is restored from a backup that does not know of the last move, to that server.
func TestAVMThatMovedAfterTheBackupToAServerThatIsAwayGoesOnThere(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, "", func(k store.Keys) []kv.Op { return registered(k, runningOn("move", "srv-1", 2)) })
	file := filepath.Join(t.TempDir(), "old.json")
	if _, err := s.server(1).command(backupCommand, file); err != nil {
		t.Fatal(err)
	}
	k := store.NewKeys("prod")
	s.server(3).runs("move", 3)
	s.copied(s.commit(k.PutClaim(runningOn("move", "srv-3", 3))))
	s.server(3).stopAgent()
	s.destroyed()
	out, err := s.server(2).command(restoreCommand, file, "--yes")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, out, "may run on srv-3", "waits until that server is back or fenced")
	claimed(t, s.state(), "move", "srv-3", 3)
	s.server(3).startAgent()
	s.follows(s.servers...)
	claimed(t, s.state(), "move", "srv-3", 3)
}

func TestAFileThatIsNoBackupOfThisPoolChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, "", func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-1", 4)) })
	dir := t.TempDir()
	file := filepath.Join(dir, "good.json")
	if _, err := s.server(1).command(backupCommand, file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	s.destroyed()
	for i, c := range []struct{ data, says string }{
		{good[:len(good)/2], "not a saved state of a pool"},
		{"", "not a saved state of a pool"},
		{strings.ReplaceAll(good, `"prod"`, `"test"`), "the state of pool test, and this is a server of pool prod"},
		{strings.ReplaceAll(good, oldLife, "99999999-0000-4000-8000-000000000000"), "--other-life"},
		{strings.Replace(good, `"format": 1`, `"format": 2`, 1), "format 2, this version reads 1"},
		{strings.Replace(good, `"format": 1,`, `"format": 1, "hope": true,`, 1), "hope"},
		{strings.ReplaceAll(good, `"srv-1"`, `"srv-9"`), "srv-1 is no server of pool prod there"},
	} {
		path := filepath.Join(dir, fmt.Sprintf("bad-%d.json", i))
		if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := s.server(1).command(restoreCommand, path, "--yes")
		if err == nil || !strings.Contains(err.Error()+out, c.says) {
			t.Errorf("file %d: %v, want an error that says %q", i, err, c.says)
		}
	}
	if _, err := s.server(1).command(restoreCommand, filepath.Join(dir, "none.json"), "--yes"); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("no file: %v", err)
	}
	if got := s.origins(); got[0] != oldLife {
		t.Errorf("the server has left its life for %v", got)
	}
	// Without a yes nothing is changed either.
	if _, err := s.server(1).command(restoreCommand, file); err == nil || !strings.Contains(err.Error(), "nothing was changed") || s.origins()[0] != oldLife {
		t.Errorf("without a yes: %v", err)
	}
	if _, err := s.server(1).command(restoreCommand, file, "--yes"); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// The server that makes the pool anew loses power when all have left the old life, its etcd perhaps just made. Another server
// must not make one more pool beside it; that server goes on where it was.
func TestARebuildThatBrokeOffWithItsServerIsFinishedThere(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, "", func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-2", 4)) })
	s.server(2).runs("web", 4)
	s.destroyed()
	maker := s.server(3)
	r := &rebuilder{cfg: maker.cfg, id: maker.id, origin: setup.Origin{Pool: "prod", Incarnation: oldLife}, clock: clock.Real(), log: slog.New(slog.DiscardHandler),
		in: strings.NewReader(""), out: t.Output()}
	in, err := r.lookUntilLost(t.Context(), wishes{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if in.Incarnation, err = setup.NewLife(); err != nil {
		t.Fatal(err)
	}
	if err := r.leave(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	maker.stopAgent()
	maker.stopEtcd()
	out, err := s.server(1).command(rebuildCommand, "--yes")
	if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("beside a pool that may have been made: %v", err)
	}
	contains(t, out, "on a server that does not answer: bring that back and run the rebuild there")
	maker.startEtcd()
	maker.startAgent()
	if _, err := maker.command(rebuildCommand, "--yes"); err != nil {
		t.Fatal(err)
	}
	s.follows(s.servers...)
	snap := s.state()
	claimed(t, snap, "web", "srv-2", 4)
	if snap.Config.Incarnation == in.Incarnation || snap.Config.Incarnation == oldLife {
		t.Errorf("it is in life %s", snap.Config.Incarnation)
	}
}

// Two operators rebuild the pool on two servers at once. In the end there is one pool, and every server belongs to it.
func TestOfTwoRebuildsAtOnceOnePoolIsLeft(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3, "", func(k store.Keys) []kv.Op { return registered(k, runningOn("web", "srv-2", 4)) })
	s.server(2).runs("web", 4)
	s.destroyed()
	errs := make([]error, 2)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { _, errs[i] = s.server(i+1).command(rebuildCommand, "--yes") })
	}
	wait.Wait()
	t.Log(errs)
	if errs[0] != nil && errs[1] != nil {
		// Each got some of the servers: whoever comes again finishes it.
		if _, err := s.server(1).command(rebuildCommand, "--yes"); err != nil {
			t.Fatal(err)
		}
	}
	s.follows(s.servers...)
	claimed(t, s.state(), "web", "srv-2", 4)
}
