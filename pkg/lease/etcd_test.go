package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
)

// server is one server with a session on a real etcd. Its guard acknowledges everything.
type server struct {
	t      *testing.T
	etcd   *etcd.Etcd
	clock  clock.Clock
	timing pool.Timing
	state  lease.FileState
}

// life is one agent of a server.
type life struct {
	*lease.Session
	*lease.Candidate
	kill func()
}

func newServer(t *testing.T, c *etcdtest.Cluster, ttl time.Duration) *server {
	t.Helper()
	timing, err := pool.NewTiming(ttl)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := lease.BootID()
	if err != nil {
		t.Fatal(err)
	}
	return &server{t: t, etcd: c.Open(), clock: clock.Real(), timing: timing,
		state: lease.FileState{Path: filepath.Join(t.TempDir(), "session.json"), BootID: boot}}
}

const realKey = prefix + "members/srv-1"

func (s *server) start() *life {
	s.t.Helper()
	log := slog.New(slog.DiscardHandler)
	session := lease.New(lease.Config{
		Server: "srv-1", MemberKey: realKey, Incarnation: "one", Timing: s.timing,
		Value:  func(id kv.LeaseID) []byte { return fmt.Appendf(nil, "%x", int64(id)) },
		Extend: func(context.Context, lease.Info) error { return nil },
		Store:  s.etcd, Leases: s.etcd, Clock: s.clock, State: s.state, Log: log,
	})
	candidate := lease.NewCandidate(lease.CandidateConfig{
		Server: "srv-1", Prefix: prefix + "leader/", MemberKey: realKey, Session: session,
		MayLead: func(context.Context) bool { return true }, Store: s.etcd, Clock: s.clock, Timing: s.timing, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	g := clock.NewGroup(s.clock)
	g.Go("session", func() { _ = session.Run(ctx) })
	g.Go("candidate", func() { _ = candidate.Run(ctx) })
	l := &life{Session: session, Candidate: candidate, kill: func() {
		cancel()
		g.Wait()
	}}
	s.t.Cleanup(l.kill) // waits, so that nothing is written while the test's folder is removed
	return l
}

// until polls, every few milliseconds, until ok.
func (s *server) until(what string, ok func() bool) {
	s.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		s.wait(5 * time.Millisecond)
	}
	s.t.Fatalf("never: %s", what)
}

func (s *server) wait(d time.Duration) {
	s.t.Helper()
	if err := s.clock.Sleep(s.t.Context(), d); err != nil {
		s.t.Fatal(err)
	}
}

// allowed waits until starts are allowed and returns the session.
func (s *server) allowed(l *life) lease.Info {
	s.t.Helper()
	s.until("starts are allowed", func() bool { return l.Allows(s.clock.Now()) })
	info, _ := l.Session.Current()
	return info
}

func (s *server) key() (kv.KeyValue, bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	found, ok, err := s.etcd.Get(ctx, realKey)
	if err != nil {
		s.t.Fatal(err)
	}
	return found, ok
}

func TestRealEtcdKeepsTheMemberKeyPastTheDeadline(t *testing.T) {
	s := newServer(t, etcdtest.Start(t, 1), 3*time.Second)
	l := s.start()
	s.allowed(l)
	s.wait(2 * time.Second)
	info, _ := l.Session.Current()
	l.kill()
	s.until("the member key is gone", func() bool { _, ok := s.key(); return !ok })
	late := s.clock.Now().Sub(info.Deadline)
	t.Logf("the member key went %v after the deadline", late)
	if late < 0 {
		t.Errorf("the member key went %v before the deadline", -late)
	}
}

func TestRealSessionIsTakenOverAndHandedOver(t *testing.T) {
	s := newServer(t, etcdtest.Start(t, 1), 3*time.Second)
	first := s.start()
	info := s.allowed(first)
	first.kill()
	second := s.start()
	if got := s.allowed(second); got.Session != info.Session {
		t.Fatalf("session %d became %d", info.Session, got.Session)
	}
	if err := second.UpdateMember(t.Context(), func(kv.LeaseID) []byte { return []byte("new") }); err != nil {
		t.Fatal(err)
	}
	if err := second.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.Handover(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	second.kill()
	s.wait(5 * time.Second)
	if found, ok := s.key(); !ok || pool.Session(found.CreateRevision) != info.Session || string(found.Value) != "new" {
		t.Fatalf("longer than T after the hand-over the member key is %+v", found)
	}
	third := s.start()
	if got := s.allowed(third); got.Session != info.Session {
		t.Fatalf("session %d became %d", info.Session, got.Session)
	}
	s.until("the key is on a lease of T again", func() bool {
		found, _ := s.key()
		got, _ := third.Session.Current()
		return found.Lease == got.LeaseID && got.LeaseID != info.LeaseID && got.Deadline.Sub(got.Sent) == s.timing.TTL
	})
	if err := third.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.key(); ok {
		t.Error("the member key is there after Release")
	}
}

func TestRevokedLeaseEndsTheRealSession(t *testing.T) {
	s := newServer(t, etcdtest.Start(t, 1), 3*time.Second)
	l := s.start()
	info := s.allowed(l)
	if err := s.etcd.Revoke(t.Context(), info.LeaseID); err != nil {
		t.Fatal(err)
	}
	if err := l.UpdateMember(t.Context(), func(kv.LeaseID) []byte { return []byte("x") }); !errors.Is(err, pool.ErrLostSession) {
		t.Errorf("UpdateMember says %v", err)
	}
	s.until("a new session", func() bool {
		got, ok := l.Session.Current()
		return ok && got.Session > info.Session
	})
}

func TestSessionSurvivesTheLossOfTheEtcdLeader(t *testing.T) {
	for name, fault := range map[string]func(m *etcdtest.Member){
		"stopped": (*etcdtest.Member).Stop,
		"frozen":  (*etcdtest.Member).Freeze,
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.Start(t, 3)
			s := newServer(t, c, 5*time.Second)
			l := s.start()
			info := s.allowed(l)
			s.wait(2 * time.Second)
			fault(c.Member(c.Leader()))
			longest := time.Duration(0)
			for end := s.clock.Now().Add(8 * time.Second); s.clock.Now().Before(end); s.wait(10 * time.Millisecond) {
				now, _ := l.Session.Current()
				longest = max(longest, s.clock.Now().Sub(now.Sent))
			}
			got, ok := l.Session.Current()
			t.Logf("longest time since a renewal was sent that succeeded: %v; stop time after %v", longest, s.timing.Stop)
			if !ok || got.Session != info.Session || longest >= s.timing.Stop {
				t.Errorf("session %+v became %+v, %v; renewals paused for %v", info, got, ok, longest)
			}
		})
	}
}

// Other tools look at the election through etcd's own library, and stand in it if they like.
func TestElectionIsThatOfEtcdsOwnLibrary(t *testing.T) {
	c := etcdtest.Start(t, 1)
	s := newServer(t, c, 3*time.Second)
	l := s.start()
	s.until("the only candidate leads", func() bool { _, ok := l.Leading(); return ok })
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	other, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		t.Fatal(err)
	}
	election := concurrency.NewElection(other, prefix+"leader")
	seen, err := election.Leader(t.Context())
	if err != nil || string(seen.Kvs[0].Value) != "srv-1" {
		t.Fatalf("the library sees %v, %v", seen, err)
	}
	won := make(chan error, 1)
	go func() { won <- election.Campaign(t.Context(), "tool") }()
	s.wait(500 * time.Millisecond)
	if err := l.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-won; err != nil {
		t.Fatal(err)
	}
	l.Stand()
	s.wait(time.Second)
	if _, ok := l.Leading(); ok {
		t.Error("two lead at once")
	}
	if err := election.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until("srv-1 leads again", func() bool { _, ok := l.Leading(); return ok })
}
