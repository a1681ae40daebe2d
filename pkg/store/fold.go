package store

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// ErrOtherLife means that etcd does not hold the data that this agent belongs to: another incarnation of the pool, an
// older state of it, or nothing. Nothing that is read there may be acted upon.
var ErrOtherLife = errors.New("etcd holds another life of the pool")

// unreadableServer stands on the roster in place of one that cannot be read. It can never answer, so no failsafe
// round succeeds. No server can have this name.
const unreadableServer pool.ServerID = "(the roster cannot be read)"

// fold turns lists and events into snapshots. It is pure: the same entries give the same snapshots, with one
// exception: a config that cannot be read leaves the last good one in force. Not safe for concurrent use, but
// the snapshots that it hands out are.
type fold struct {
	keys Keys
	// incarnation that the data must have; empty until the first config is seen.
	incarnation string
	snap        *pool.Snapshot
	leaders     pool.Table[string, pool.Leader]
	shelves     map[string]shelf
	// next is the snapshot being built.
	next *pool.Snapshot
	// listed is the revision of the last list: values up to it were not seen to come about.
	listed pool.Revision
	// changed are the claims, as they were, and the members that the revision being folded changes.
	changed []changedKey
	// shared lets mirrors in one process fold together; nil for one alone.
	shared *Shared
}

func newFold(keys Keys, incarnation string) *fold {
	f := &fold{keys: keys, incarnation: incarnation, snap: &pool.Snapshot{}}
	f.shelves = map[string]shelf{
		kindServers:    &table[pool.ServerID, pool.Server]{at: func(s *pool.Snapshot) *pool.Table[pool.ServerID, pool.Server] { return &s.Servers }, read: readServer},
		kindMembers:    &table[pool.ServerID, pool.Member]{at: func(s *pool.Snapshot) *pool.Table[pool.ServerID, pool.Member] { return &s.Members }, read: f.member, instead: memberInstead},
		kindVMs:        &table[pool.VMID, pool.VM]{at: func(s *pool.Snapshot) *pool.Table[pool.VMID, pool.VM] { return &s.VMs }, read: readVM, instead: vmInstead},
		kindClaims:     &table[pool.VMID, pool.Claim]{at: func(s *pool.Snapshot) *pool.Table[pool.VMID, pool.Claim] { return &s.Claims }, read: f.claim, instead: claimInstead},
		kindStates:     &table[pool.VMID, pool.VMState]{at: func(s *pool.Snapshot) *pool.Table[pool.VMID, pool.VMState] { return &s.States }, read: readState, instead: stateInstead},
		kindHomes:      &table[pool.VMID, pool.Home]{at: func(s *pool.Snapshot) *pool.Table[pool.VMID, pool.Home] { return &s.Homes }, read: readHome, instead: homeInstead},
		kindFences:     &table[pool.ServerID, pool.Fence]{at: func(s *pool.Snapshot) *pool.Table[pool.ServerID, pool.Fence] { return &s.Fences }, read: readFence, instead: fenceInstead},
		kindAlerts:     &table[pool.AlertID, pool.Alert]{at: func(s *pool.Snapshot) *pool.Table[pool.AlertID, pool.Alert] { return &s.Alerts }, read: readAlert},
		kindOperations: &table[pool.OperationID, pool.Operation]{at: func(s *pool.Snapshot) *pool.Table[pool.OperationID, pool.Operation] { return &s.Operations }, read: readOperation},
		kindEvents:     &table[pool.EventID, pool.Event]{at: func(s *pool.Snapshot) *pool.Table[pool.EventID, pool.Event] { return &s.Events }, read: readEvent},
		kindRevoked:    &table[pool.RevocationID, pool.Revocation]{at: func(s *pool.Snapshot) *pool.Table[pool.RevocationID, pool.Revocation] { return &s.Revocations }, read: readRevocation},
		kindIncidents:  &table[pool.IncidentID, pool.Incident]{at: func(s *pool.Snapshot) *pool.Table[pool.IncidentID, pool.Incident] { return &s.Incidents }, read: readIncident},
	}
	return f
}

// list replaces everything by what a list found at rev. Its error is ErrOtherLife.
func (f *fold) list(all []kv.KeyValue, rev pool.Revision) error {
	if err := f.notBack(rev); err != nil {
		return err
	}
	f.listed = rev
	if f.known(rev) {
		return nil
	}
	old := f.snap.Config
	f.next = &pool.Snapshot{Revision: rev, Config: old}
	f.leaders = pool.Table[string, pool.Leader]{}
	if err := f.listConfig(all); err != nil {
		return err
	}
	for _, s := range f.shelves {
		s.open()
	}
	for _, entry := range all {
		if entry.Key != f.keys.Config() {
			f.put(entry)
		}
	}
	for _, s := range f.shelves {
		s.close(f.next)
	}
	f.next.Foreign = listedForeign(f.snap.Foreign, f.next.Claims)
	return f.finish()
}

// notBack refuses a revision before the one that was seen.
func (f *fold) notBack(rev pool.Revision) error {
	if rev >= f.snap.Revision {
		return nil
	}
	return fmt.Errorf("%w: its revision is %d, but %d was seen before; it was restored from a backup, or is another etcd",
		ErrOtherLife, rev, f.snap.Revision)
}

// witness is a key that an etcd without a config shows to be the one that was folded so far: a registration of a
// server, which nothing removes but an operator. Empty if there is none.
func (f *fold) witness() string {
	for id := range f.snap.Servers.All() {
		return f.keys.Server(id)
	}
	return ""
}

// same checks that an etcd which holds these of the config and the witness at rev is the one that was folded so far.
func (f *fold) same(found []kv.KeyValue, rev pool.Revision) error {
	if err := f.notBack(rev); err != nil {
		return err
	}
	if len(found) == 0 {
		return f.missing()
	}
	if found[0].Key != f.keys.Config() {
		return nil // the config alone is gone, which the watch will tell
	}
	c, err := readConfig(found[0])
	if err != nil {
		return nil //nolint:nilerr // it cannot be read, which the watch will report; that is no sign of another life
	}
	return f.livesAs(c)
}

// livesAs refuses a config of another life of the pool.
func (f *fold) livesAs(c pool.Config) error {
	if f.incarnation == "" || c.Incarnation == f.incarnation {
		return nil
	}
	return fmt.Errorf("%w: its data is of incarnation %s, this agent belongs to %s; point the agent at its own etcd, or join the pool again",
		ErrOtherLife, brief(c.Incarnation), f.incarnation)
}

// missing refuses a pool without a config if this agent knows that there was one.
func (f *fold) missing() error {
	if f.incarnation == "" {
		return nil
	}
	return fmt.Errorf("%w: there is no key %s, so the pool that this agent belongs to is not there; check the endpoints, or rebuild the pool",
		ErrOtherLife, f.keys.Config())
}

// listConfig takes the config first: whether records belong to this life of the data hangs on it.
func (f *fold) listConfig(all []kv.KeyValue) error {
	for _, entry := range all {
		if entry.Key == f.keys.Config() {
			return f.putConfig(entry)
		}
	}
	f.noConfig()
	return nil
}

// apply folds one batch of a watch. Its error is ErrOtherLife.
func (f *fold) apply(b kv.Batch) error {
	if b.Revision <= f.snap.Revision {
		return nil
	}
	if f.known(b.Revision) {
		return nil
	}
	next := *f.snap
	next.Revision = b.Revision
	f.next = &next
	for i, e := range b.Events {
		f.noteChange(e)
		if err := f.event(e); err != nil {
			return err
		}
		if i+1 == len(b.Events) || b.Events[i+1].ModRevision != e.ModRevision {
			f.judge(e.ModRevision)
		}
	}
	return f.finish()
}

func (f *fold) event(e kv.Event) error {
	switch {
	case e.ModRevision <= f.snap.Revision:
		return nil // delivered twice
	case e.Key == f.keys.Config() && e.Deleted:
		f.noConfig()
	case e.Key == f.keys.Config():
		return f.putConfig(e.KeyValue)
	case e.Deleted:
		f.drop(e.Key)
	default:
		f.put(e.KeyValue)
	}
	return nil
}

// finish makes the snapshot being built the current one. Its error is ErrOtherLife: of the pool nothing is left.
func (f *fold) finish() error {
	if f.next.Config.Name == "" || f.next.Config.Revision == 0 && f.next.Servers.Len() == 0 {
		if err := f.missing(); err != nil {
			return err
		}
	}
	f.next.Leader = f.winner()
	f.snap, f.next = f.next, nil
	f.publish()
	return nil
}

// winner is the candidate with the lowest create revision.
func (f *fold) winner() pool.Leader {
	var first pool.Leader
	for _, l := range f.leaders.All() {
		if first.Revision == 0 || l.Revision < first.Revision {
			first = l
		}
	}
	return first
}

// put folds one entry other than the config.
func (f *fold) put(entry kv.KeyValue) {
	kind, name, ok := f.keys.split(entry.Key)
	if !ok {
		return
	}
	var err error
	switch kind {
	case kindRoster:
		err = f.putRoster(entry)
	case kindLeader:
		f.leaders = f.leaders.With(entry.Key, readLeader(entry))
	default:
		if s := f.shelves[kind]; s != nil {
			err = s.put(f.next, name, entry)
		}
	}
	f.mark(entry.Key, err)
}

// drop folds the deletion of a key other than the config.
func (f *fold) drop(key string) {
	kind, name, ok := f.keys.split(key)
	if !ok {
		return
	}
	switch kind {
	case kindRoster:
		f.next.Roster = pool.Roster{}
	case kindLeader:
		f.leaders = f.leaders.Without(key)
	default:
		if s := f.shelves[kind]; s != nil {
			s.drop(f.next, name)
		}
	}
	f.mark(key, nil)
}

// mark keeps the list of keys that cannot be read.
func (f *fold) mark(key string, err error) {
	if err == nil {
		f.next.Corrupt = f.next.Corrupt.Without(key)
		return
	}
	reason := err.Error()
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		reason = corrupt.Reason
	}
	f.next.Corrupt = f.next.Corrupt.With(key, reason)
}

func (f *fold) putRoster(entry kv.KeyValue) error {
	r, err := readRoster(entry)
	if err != nil {
		r = pool.Roster{Revision: entry.ModRevision,
			Standing: map[pool.ServerID]pool.Standing{unreadableServer: pool.StandingPending}}
	}
	f.next.Roster = r
	return err
}

// putConfig checks that the data is of this agent's life of the pool, and keeps the last good config in force if
// the new one cannot be read.
func (f *fold) putConfig(entry kv.KeyValue) error {
	c, err := readConfig(entry)
	if err != nil {
		f.mark(entry.Key, err)
		f.next.Config = f.configInstead(entry.ModRevision)
		return nil
	}
	if err := f.livesAs(c); err != nil {
		return err
	}
	f.incarnation = c.Incarnation
	f.mark(entry.Key, nil)
	f.next.Config = c
	return nil
}

// noConfig handles a pool without a config. The last one stays, frozen, so that nothing is decided by it: somebody has
// deleted the key. It has no revision, as a key that is absent: whoever writes it anew compares that. An agent that
// knows which life it belongs to, and has seen no config, does not go on without.
func (f *fold) noConfig() {
	f.next.Config = pool.Config{}
	if f.snap.Config.Name == "" {
		return
	}
	f.next.Config = f.snap.Config
	f.next.Config.Revision, f.next.Config.Frozen = 0, true
	f.next.Config.FrozenMark = pool.Mark{By: "holdfast", Why: "the pool's configuration is gone from etcd"}
	f.mark(f.keys.Config(), errors.New("it was deleted; the last one is in force, with HA frozen: unfreeze HA to write it anew"))
}

func (f *fold) configInstead(rev pool.Revision) pool.Config {
	c := f.snap.Config
	if c.Revision == 0 {
		c = pool.DefaultConfig(f.keys.name(), f.incarnation)
		c.HA, c.Frozen = true, true
		c.FrozenMark = pool.Mark{By: "holdfast", Why: "the pool's configuration in etcd cannot be read"}
	}
	c.Revision = rev
	return c
}

// member also refuses a presence in another life of the data.
func (f *fold) member(entry kv.KeyValue, name string) (pool.Member, error) {
	m, err := readMember(entry, name)
	if err == nil {
		err = f.ours(entry.Key, m.Incarnation)
	}
	return m, err
}

// claim also refuses one of another life of the data.
func (f *fold) claim(entry kv.KeyValue, name string) (pool.Claim, error) {
	c, err := readClaim(entry, name)
	if err == nil {
		err = f.ours(entry.Key, c.Incarnation)
	}
	return c, err
}

// ours accepts records without an incarnation: they were written by hand or before the first config.
func (f *fold) ours(key, incarnation string) error {
	if incarnation == "" || f.incarnation == "" || incarnation == f.incarnation {
		return nil
	}
	return &CorruptError{Key: key, Reason: fmt.Sprintf("it belongs to incarnation %s of the pool's data, not to %s", brief(incarnation), f.incarnation)}
}

// shelf is one table of the snapshot as the fold sees it.
type shelf interface {
	// open starts collecting a list; close puts what was collected into s.
	open()
	close(s *pool.Snapshot)
	put(s *pool.Snapshot, name string, entry kv.KeyValue) error
	drop(s *pool.Snapshot, name string)
}

type table[K interface {
	~string
	cmp.Ordered
}, V any] struct {
	at   func(*pool.Snapshot) *pool.Table[K, V]
	read func(entry kv.KeyValue, name string) (V, error)
	// instead returns the placeholder of a record that cannot be read; nil: it is left out.
	instead func(name string, entry kv.KeyValue) V
	// listed collects a list; nil outside one.
	listed map[K]V
}

func (t *table[K, V]) open() { t.listed = map[K]V{} }

func (t *table[K, V]) close(s *pool.Snapshot) {
	*t.at(s) = pool.NewTable(t.listed)
	t.listed = nil
}

func (t *table[K, V]) put(s *pool.Snapshot, name string, entry kv.KeyValue) error {
	v, err := t.read(entry, name)
	switch {
	case err != nil && t.instead == nil:
		t.drop(s, name)
		return err
	case err != nil:
		v = t.instead(name, entry)
	}
	if t.listed != nil {
		t.listed[K(name)] = v
	} else {
		*t.at(s) = t.at(s).With(K(name), v)
	}
	return err
}

func (t *table[K, V]) drop(s *pool.Snapshot, name string) {
	if t.listed == nil {
		*t.at(s) = t.at(s).Without(K(name))
	}
}

func memberInstead(name string, entry kv.KeyValue) pool.Member {
	return pool.Member{Server: pool.ServerID(name), Session: pool.Session(entry.CreateRevision),
		LeaseID: int64(entry.Lease), Revision: entry.ModRevision}
}

func vmInstead(name string, entry kv.KeyValue) pool.VM {
	return pool.VM{ID: pool.VMID(name), Revision: entry.ModRevision}
}

func claimInstead(name string, entry kv.KeyValue) pool.Claim {
	return pool.Claim{VM: pool.VMID(name), Revision: entry.ModRevision}
}

func stateInstead(name string, entry kv.KeyValue) pool.VMState {
	return pool.VMState{VM: pool.VMID(name), Revision: entry.ModRevision}
}

func homeInstead(name string, entry kv.KeyValue) pool.Home {
	return pool.Home{VM: pool.VMID(name), Revision: entry.ModRevision}
}

func fenceInstead(name string, entry kv.KeyValue) pool.Fence {
	return pool.Fence{Server: pool.ServerID(name), Revision: entry.ModRevision}
}
