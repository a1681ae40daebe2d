package api

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestAnIncidentIsFoundByItsNameItsBeginningOrAsTheLast(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	table := map[pool.IncidentID]pool.Incident{}
	for _, id := range []pool.IncidentID{"20261122T100000-srv-1", "20261122T110000-srv-2", "20261122T110000-srv-2-2"} {
		table[id] = pool.Incident{ID: id, Began: at}
	}
	snap := &pool.Snapshot{Incidents: pool.NewTable(table)}
	for name, want := range map[string]pool.IncidentID{"20261122T10": "20261122T100000-srv-1", "last": "20261122T110000-srv-2-2", "20261122T110000-srv-2": "20261122T110000-srv-2"} {
		if i, err := findIncident(snap, name); err != nil || i.ID != want {
			t.Errorf("%s: %s, %v; want %s", name, i.ID, err, want)
		}
	}
	if _, err := findIncident(snap, "20261122T11"); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("two that begin so: %v", err)
	}
	if _, err := findIncident(snap, "2027"); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	if _, err := findIncident(&pool.Snapshot{}, "last"); !errors.Is(err, pool.ErrNotFound) {
		t.Errorf("the last of none: %v", err)
	}
}
