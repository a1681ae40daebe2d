package failsafe_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// memory keeps what a Book saves, unless it fails.
type memory struct {
	known failsafe.Known
	ok    bool
	fail  error
	saves int
}

func (m *memory) Load() (failsafe.Known, bool, error) { return m.known, m.ok, m.fail }

func (m *memory) Save(k failsafe.Known) error {
	if m.fail != nil {
		return m.fail
	}
	m.known, m.ok, m.saves = k, true, m.saves+1
	return nil
}

func book(t *testing.T, m failsafe.Memory) *failsafe.Book {
	t.Helper()
	b, err := failsafe.NewBook("s1", m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func learn(t *testing.T, b *failsafe.Book, s *pool.Snapshot, session pool.Session) {
	t.Helper()
	if err := b.Learn(s, session); err != nil {
		t.Fatal(err)
	}
}

func TestASuccessorKnowsWhatWasAcknowledged(t *testing.T) {
	m := &memory{}
	learn(t, book(t, m), snapshot(20, 10, three()), 7)
	next := book(t, m)
	k, ok := next.Known()
	if !ok || next.Acknowledged() != 10 || k.ReadAt != 20 || len(k.Roster.Standing) != 3 || k.Addresses["s2"] != "s2:7443" || k.TTL != ttl || k.Incarnation != "life" {
		t.Errorf("a successor knows %+v, %v", k, ok)
	}
}

func TestWhatWasAcknowledgedInAnotherLifeOfThePoolDoesNotCountInThisOne(t *testing.T) {
	b := book(t, &memory{})
	learn(t, b, snapshot(900, 800, three()), 7)
	next := snapshot(20, 10, three())
	next.Config.Incarnation = "next life"
	learn(t, b, next, 0)
	if k, _ := b.Known(); b.Acknowledged() != 10 || k.ReadAt != 20 {
		t.Errorf("acknowledged %d, read at %d", b.Acknowledged(), k.ReadAt)
	}
	learn(t, b, snapshot(1000, 0, nil), 0)
	if b.Acknowledged() != 0 {
		t.Errorf("acknowledged %d in a life without a roster", b.Acknowledged())
	}
}

// It would be acknowledged in etcd, and a successor would ask fewer than it must.
func TestARosterThatCannotBeKeptIsNotAcknowledged(t *testing.T) {
	m := &memory{}
	b := book(t, m)
	learn(t, b, snapshot(20, 10, three()), 7)
	m.fail = errors.New("disk full")
	more := three()
	more["s4"] = pool.StandingPending
	if err := b.Learn(snapshot(30, 25, more), 7); err == nil || b.Acknowledged() != 10 {
		t.Errorf("acknowledged %d, error %v", b.Acknowledged(), err)
	}
	m.fail = nil
	learn(t, b, snapshot(31, 25, more), 7)
	if b.Acknowledged() != 25 {
		t.Errorf("acknowledged %d once it can be kept", b.Acknowledged())
	}
}

func TestAnOlderSnapshotTeachesNothing(t *testing.T) {
	b := book(t, &memory{})
	learn(t, b, snapshot(30, 25, three()), 7)
	learn(t, b, snapshot(20, 10, nil), 7)
	if b.Acknowledged() != 25 {
		t.Errorf("acknowledged %d", b.Acknowledged())
	}
}

func TestAnIdlePoolIsNotKeptAnew(t *testing.T) {
	m := &memory{}
	b := book(t, m)
	for rev := pool.Revision(20); rev < 1000; rev++ {
		learn(t, b, snapshot(rev, 10, three()), 7)
	}
	if m.saves != 1 {
		t.Errorf("saved %d times", m.saves)
	}
}

func TestANewSessionHasTheRosterReadAnew(t *testing.T) {
	m := &memory{}
	b := book(t, m)
	learn(t, b, snapshot(20, 10, three()), 7)
	learn(t, b, snapshot(40, 10, three()), 35)
	if k, _ := b.Known(); k.ReadAt != 40 || m.known.ReadAt != 40 {
		t.Errorf("read at %d, kept %d", k.ReadAt, m.known.ReadAt)
	}
}

func TestKeptRosterOfAnotherBootCountsForNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "roster.json")
	known := failsafe.Known{Roster: pool.Roster{Standing: three(), Revision: 10}, ReadAt: 20, TTL: ttl, Watchdog: time.Second}
	if err := (failsafe.FileMemory{Path: path, BootID: "one"}).Save(known); err != nil {
		t.Fatal(err)
	}
	got, ok, err := failsafe.FileMemory{Path: path, BootID: "one"}.Load()
	if err != nil || !ok || got.ReadAt != 20 || got.Roster.Revision != 10 || !got.Roster.InForce("s2") || got.Watchdog != time.Second {
		t.Errorf("read back %+v, %v, %v", got, ok, err)
	}
	if _, ok, err := (failsafe.FileMemory{Path: path, BootID: "two"}).Load(); ok || err != nil {
		t.Errorf("after a reboot: %v, %v", ok, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := failsafe.NewBook("s1", failsafe.FileMemory{Path: path, BootID: "one"}); err == nil {
		t.Error("a damaged file was not reported")
	}
}
