package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
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

func TestIncidentsComeInPagesToo(t *testing.T) {
	b := newBench(t)
	b.pool.change(func(s *pool.Snapshot) {
		for i := range 5 {
			id := pool.IncidentID(fmt.Sprintf("20261122T10000%d-srv-1", i))
			s.Incidents = s.Incidents.With(id, pool.Incident{ID: id, Began: time.Unix(int64(i), 0)})
		}
	})
	var pages []string
	r := &pb.ListIncidentsRequest{PageSize: 2, ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"id"}}}
	for range 5 {
		resp, err := b.ListIncidents(as(t), r)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, i := range resp.GetIncidents() {
			if i.GetBegan() != nil {
				t.Errorf("%s has more than the mask asks for", i.GetId())
			}
			ids = append(ids, i.GetId()[14:15])
		}
		pages = append(pages, strings.Join(ids, ""))
		if r.PageToken = resp.GetNextPageToken(); r.PageToken == "" {
			break
		}
	}
	if got := strings.Join(pages, " "); got != "01 23 4" {
		t.Errorf("pages: %s", got)
	}
	resp, err := b.ListIncidents(as(t), &pb.ListIncidentsRequest{Filter: "id=*3-srv-1"})
	if err != nil || len(resp.GetIncidents()) != 1 {
		t.Errorf("filtered: %v, %v", resp, err)
	}
	if _, err := b.ListIncidents(as(t), &pb.ListIncidentsRequest{Limit: -1}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("a negative limit: %v", err)
	}
}
