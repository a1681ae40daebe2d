package rebuild

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/saved"
)

func TestWhatMustNotGoBackComesFromTheCopies(t *testing.T) {
	server := func(id pool.ServerID, address string, locked bool) pool.Server {
		return pool.Server{ID: id, Address: address, Maintenance: locked}
	}
	revoked := func(serial string) pool.Revocation {
		return pool.Revocation{ID: pool.RevokedSerial(serial), Revoked: pool.Mark{By: "kim", At: time.Unix(1, 0)}}
	}
	file := saved.State{Incarnation: "old", Revision: 50}
	file.Servers = file.Servers.With("srv-1", server("srv-1", "10.0.0.1:7400", true)).With("srv-2", server("srv-2", "10.0.0.2:7400", false))
	file.Revocations = file.Revocations.With(revoked("0a").ID, revoked("0a"))
	copied, older := saved.State{Incarnation: "old", Revision: 90}, saved.State{Incarnation: "older", Revision: 900}
	copied.Servers = copied.Servers.With("srv-1", server("srv-1", "10.9.9.9:7400", false)).With("srv-3", server("srv-3", "10.0.0.3:7400", false))
	copied.Revocations = copied.Revocations.With(revoked("0b").ID, revoked("0b"))
	older.Revocations = older.Revocations.With(revoked("0c").ID, revoked("0c"))
	copies, lives := []saved.State{older, copied}, []string{"old", "older"}

	newer := Newer(file, copies, lives)
	if newer == nil || newer.Revision != 90 {
		t.Fatalf("newer: %+v", newer)
	}
	got := Merge(file, newer, copies)
	if one, _ := got.Servers.Get("srv-1"); one.Address != "10.9.9.9:7400" || !one.Maintenance {
		t.Errorf("srv-1: %+v; want it where it is now, with what is restored of it", one)
	}
	if got.Servers.Len() != 3 || got.Revocations.Len() != 3 || got.Revision != 50 {
		t.Errorf("servers %v, revocations %v", got.Servers.Keys(), got.Revocations.Keys())
	}
	if file.Servers.Len() != 2 || file.Revocations.Len() != 1 {
		t.Error("what was given has changed")
	}
	for name, c := range map[string]struct {
		state saved.State
		lives []string
	}{
		"a backup just made":        {saved.State{Incarnation: "old", Revision: 90}, lives},
		"a backup of a later life":  {saved.State{Incarnation: "new", Revision: 3}, []string{"new", "old", "older"}},
		"no copy of a life we know": {file, []string{"unborn"}},
	} {
		if n := Newer(c.state, copies, c.lives); n != nil {
			t.Errorf("%s: %+v is newer", name, n)
		}
	}
}
