package app

import (
	"bytes"
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// facts is what this server says about itself in its member record.
type facts struct {
	capacity local.Capacity
	// known: capacity was read at least once.
	known       bool
	guard       bool
	watchdog    time.Duration
	lacks       map[pool.VMID][]string
	storageLost bool
	noPause     string
	// trouble is what has not answered at each look since troubleSince.
	trouble      string
	troubleSince pool.Instant
	since        time.Time
}

// memberValue builds the member record as it is written.
func (a *Agent) memberValue(id kv.LeaseID) []byte {
	return a.data.store.Keys().PutMember(a.memberRecord(id), id).Value
}

// memberRecord is what this server says about itself now.
func (a *Agent) memberRecord(id kv.LeaseID) pool.Member {
	a.mu.Lock()
	f := a.facts
	a.mu.Unlock()
	trouble := f.trouble
	if a.e.Clock.Now().Before(f.troubleSince.Add(troubleAfter)) {
		trouble = "" // an update of libvirt's, say
	}
	m := pool.Member{
		Server: a.cfg.Server, LeaseID: int64(id), Version: a.cfg.Version, Incarnation: a.Snapshot().Config.Incarnation,
		BootID: f.capacity.BootID, MemoryBytes: f.capacity.MemoryBytes, CPUs: f.capacity.CPUs,
		Guard: f.guard, Watchdog: f.watchdog, Lacks: f.lacks, StorageLost: f.storageLost, NoPause: f.noPause, Trouble: trouble, Since: f.since,
		RosterRevision: a.book.Acknowledged(), Failsafe: true,
	}
	if s := a.current(); s != nil {
		m.CutShort = s.CutShort()
	}
	if a.e.Voter != nil {
		m.EtcdVoter = a.e.Voter()
	}
	return m
}

// storageLost reports whether this server has lost its shared storage, as last looked.
func (a *Agent) storageLost() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.facts.storageLost
}

// keepMember keeps the member record true: it looks at what it says whenever a VM's registration changed, the
// guard began or ceased to answer, and every factsEvery; storage every storageEvery.
func (a *Agent) keepMember(ctx context.Context, rec *local.Reconciler, session *lease.Session, ttl time.Duration) error {
	sig := a.e.Clock.NewSignal()
	defer a.data.mirror.Subscribe(sig)()
	session.Subscribe(sig)
	known := map[pool.VMID]needsSeen{}
	var seen pool.Table[pool.VMID, pool.VM]
	nextFacts := a.e.Clock.Now()
	var checked checkedRecord
	for ctx.Err() == nil {
		snap := a.Snapshot()
		if !snap.Servers.Has(a.cfg.Server) && !snap.Unreadable("servers", string(a.cfg.Server)) {
			return a.removed(ctx, session)
		}
		ttl = a.retime(session, snap.Config.LeaseTTL, ttl)
		now := a.e.Clock.Now()
		vms, before := snap.VMs, seen
		full := !now.Before(nextFacts) || !a.capacityKnown()
		if full {
			nextFacts = now.Add(factsEvery)
			before = pool.Table[pool.VMID, pool.VM]{}
		}
		seen = vms
		if !a.lookAtNeeds(ctx, vms, before, known, full) {
			nextFacts = now // a check had no answer, as just after a boot: it is made again soon
		}
		a.lookAtServer(ctx, rec, full)
		a.learnRoster(snap, a.ID())
		a.arrive(ctx, snap)
		if info, ok := session.Current(); ok && a.memberDiffers(snap, info, &checked) {
			if err := session.UpdateMember(ctx, nil); err != nil && ctx.Err() == nil {
				a.e.Log.Debug("member record", "err", err)
			}
		}
		sig.Wait(ctx, storageEvery)
	}
	return nil
}

// arrive tells the pool that a server which has joined runs its agent now: from here on its absence is a loss.
func (a *Agent) arrive(ctx context.Context, snap *pool.Snapshot) {
	srv, ok := snap.Servers.Get(a.cfg.Server)
	if !ok || !srv.Awaited || !snap.Members.Has(a.cfg.Server) {
		return
	}
	ctx, cancel := a.e.Clock.WithTimeout(ctx, factsLimit)
	defer cancel()
	k := a.data.store.Keys()
	srv.Awaited = false
	if _, err := a.data.store.Commit(ctx, kv.Txn{If: []kv.Compare{k.ServerIs(srv.ID, srv.Revision)}, Then: []kv.Op{k.PutServer(srv)}}); err != nil && ctx.Err() == nil {
		a.e.Log.Debug("registration", "err", err) // tried again with the next snapshot
	}
}

// checkedRecord is a member record in etcd that was found to say what this server would write: revision says which one,
// record what that was.
type checkedRecord struct {
	revision pool.Revision
	record   pool.Member
}

// memberDiffers reports whether the member record in snap is not what this server would write now. Both are compared as
// they are written, once: while neither changes the answer stays.
func (a *Agent) memberDiffers(snap *pool.Snapshot, info lease.Info, checked *checkedRecord) bool {
	m, ok := snap.Members.Get(a.cfg.Server)
	if !ok || m.Session != info.Session {
		return true
	}
	mine := a.memberRecord(info.LeaseID)
	if m.Revision == checked.revision && reflect.DeepEqual(mine, checked.record) {
		return false
	}
	keys := a.data.store.Keys()
	if !bytes.Equal(keys.PutMember(m, info.LeaseID).Value, keys.PutMember(mine, info.LeaseID).Value) {
		return true
	}
	*checked = checkedRecord{m.Revision, mine}
	return false
}

// removed gives the session of a server back that is no longer registered. The agent ends with the error.
func (a *Agent) removed(ctx context.Context, session *lease.Session) error {
	ctx, cancel := a.e.Clock.WithTimeout(ctx, factsLimit)
	defer cancel()
	if err := session.Release(ctx); err != nil {
		a.e.Log.Warn("giving the session back", "err", err)
	}
	return pool.Refuse("SERVER_REMOVED", "stop and disable its units; to come back it joins anew", "%s was removed from pool %s", a.cfg.Server, a.cfg.Pool)
}

// retime gives the session a changed life-time of leases, and returns the one that was looked at last. The API refuses
// one that this server cannot keep; should one slip through, the session stays as it is.
func (a *Agent) retime(session *lease.Session, wanted, seen time.Duration) time.Duration {
	if wanted == seen {
		return seen
	}
	timing, err := pool.NewTiming(wanted)
	if err == nil && a.e.CheckTTL != nil {
		err = a.e.CheckTTL(wanted)
	}
	if err != nil {
		a.e.Log.Error("the pool's life-time of leases cannot be kept here", "ttl", wanted, "err", err)
		return wanted
	}
	a.e.Log.Info("life-time of leases changed", "from", seen, "to", wanted)
	session.SetTiming(timing)
	return wanted
}

// storageEvery is how often the path to the shared storage is looked at.
const storageEvery = 2 * time.Second

// needsSeen remembers what was looked at, so that an unchanged VM costs nothing.
type needsSeen struct {
	revision pool.Revision
	missing  []string
}

// lookAtNeeds checks what the VMs that may have changed need from this server; all of them if full. It reports whether
// every check had an answer.
func (a *Agent) lookAtNeeds(ctx context.Context, vms, seen pool.Table[pool.VMID, pool.VM], known map[pool.VMID]needsSeen, full bool) (answered bool) {
	changed := false
	answered = true
	for id, c := range vms.ChangesSince(seen) {
		vm := c.Is
		if vm == nil || len(vm.Needs) == 0 {
			changed = changed || len(known[id].missing) > 0
			delete(known, id)
			continue
		}
		if k, ok := known[id]; ok && k.revision == vm.Revision && !full {
			continue
		}
		missing, err := a.missing(ctx, vm.Needs)
		if err != nil {
			answered = false
			missing = []string{"an answer from its own checks: " + err.Error()}
		}
		changed = changed || !slices.Equal(missing, known[id].missing)
		known[id] = needsSeen{vm.Revision, missing}
	}
	if !changed {
		return answered
	}
	lacks := map[pool.VMID][]string{}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if m := known[id].missing; len(m) > 0 {
			lacks[id] = m
		}
	}
	a.mu.Lock()
	a.facts.lacks = lacks
	a.mu.Unlock()
	return answered
}

func (a *Agent) missing(ctx context.Context, needs []pool.Need) ([]string, error) {
	if len(needs) == 0 {
		return nil, nil
	}
	ctx, cancel := a.e.Clock.WithTimeout(ctx, factsLimit)
	defer cancel()
	return a.e.Needs.Missing(ctx, needs)
}

// factsLimit bounds one look at the server's own state.
const factsLimit = 10 * time.Second

// capacity reads what this server has, within capacityLimit.
func (a *Agent) capacity(ctx context.Context) (local.Capacity, error) {
	ctx, cancel := a.e.Clock.WithTimeout(ctx, capacityLimit)
	defer cancel()
	return a.e.Capacity(ctx)
}

// troubleAfter is for how long the guard or libvirt must have been silent before the pool is told: the restart of either takes
// less than a second.
const troubleAfter = 5 * time.Second

// capacityLimit bounds one look at the server's capacity, which waits for nothing but libvirt's answer.
const capacityLimit = time.Second

func (a *Agent) capacityKnown() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.facts.known
}

// lookAtServer refreshes guard, storage and, if full, capacity.
func (a *Agent) lookAtServer(ctx context.Context, rec *local.Reconciler, full bool) {
	ctx, cancel := a.e.Clock.WithTimeout(ctx, factsLimit)
	defer cancel()
	answers, watchdog := rec.GuardAnswers()
	noPause := ""
	if a.e.NoPause != nil {
		noPause = a.e.NoPause()
	}
	lost, storageErr := a.e.Needs.StorageLost(ctx)
	var capacity local.Capacity
	var capacityErr error
	if full {
		capacity, capacityErr = a.capacity(ctx)
	}
	trouble := rec.Trouble() // before the lock: the reconciler asks this agent while it holds its own
	a.mu.Lock()
	defer a.mu.Unlock()
	a.facts.guard, a.facts.watchdog = answers, watchdog
	a.facts.noPause = noPause
	if trouble != a.facts.trouble {
		a.facts.trouble, a.facts.troubleSince = trouble, a.e.Clock.Now()
	}
	if storageErr == nil && lost != a.facts.storageLost {
		a.facts.storageLost = lost
		rec.Wake().Set()
	}
	if full && capacityErr == nil {
		a.facts.capacity, a.facts.known = capacity, true
	}
}
