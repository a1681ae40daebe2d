package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/plan"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// ListIncidents lists the records of outages, oldest first.
func (s *Server) ListIncidents(_ context.Context, r *pb.ListIncidentsRequest) (*pb.ListIncidentsResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	if r.GetLimit() < 0 {
		return nil, pool.InField("limit", fmt.Errorf("limit %d: must be 0 (all) or more: %w", r.GetLimit(), pool.ErrInvalid))
	}
	var all []*pb.Incident
	for _, i := range snap.Incidents.All() {
		if (!r.GetOpenOnly() || i.Open()) && concerns(i, pool.ServerID(r.GetServer()), pool.VMID(r.GetVm())) {
			all = append(all, wire.Incident(i))
		}
	}
	if n := int(r.GetLimit()); n > 0 && len(all) > n {
		all = all[len(all)-n:]
	}
	page, next, err := selectPage(r, all, (*pb.Incident).GetId, true)
	return &pb.ListIncidentsResponse{Incidents: page, NextPageToken: next, Revision: int64(snap.Revision)}, err
}

// concerns reports whether an incident names the server and the VM; empty names are in every one.
func concerns(i pool.Incident, server pool.ServerID, vm pool.VMID) bool {
	isServer := func(s pool.IncidentServer) bool { return s.Server == server }
	touches := func(v pool.IncidentVM) bool { return v.From == server || v.To == server }
	isVM := func(v pool.IncidentVM) bool { return v.VM == vm }
	return (server == "" || slices.ContainsFunc(i.Servers, isServer) || slices.ContainsFunc(i.VMs, touches)) &&
		(vm == "" || slices.ContainsFunc(i.VMs, isVM))
}

// GetIncident returns one record with its time line.
func (s *Server) GetIncident(_ context.Context, r *pb.GetIncidentRequest) (*pb.GetIncidentResponse, error) {
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	i, err := findIncident(snap, r.GetIncident())
	if err != nil {
		return nil, err
	}
	resp := &pb.GetIncidentResponse{Incident: wire.Incident(i), Revision: int64(snap.Revision)}
	for _, step := range plan.Timeline(i) {
		resp.Timeline = append(resp.Timeline, &pb.IncidentStep{
			At: timestamppb.New(step.At), Server: string(step.Server), Vm: string(step.VM), Kind: step.Kind, Text: step.Text,
		})
	}
	return resp, nil
}

// findIncident finds a record by its ID, by the beginning of one, or the latest by the word last.
func findIncident(snap *pool.Snapshot, name string) (pool.Incident, error) {
	if name == "last" {
		if id, ok := snap.Incidents.Last(); ok {
			i, _ := snap.Incidents.Get(id)
			return i, nil
		}
		return pool.Incident{}, fmt.Errorf("no incident is on record: %w", pool.ErrNotFound)
	}
	if name == "" {
		return pool.Incident{}, fmt.Errorf("incident: name one, or \"last\": %w", pool.ErrInvalid)
	}
	if i, ok := snap.Incidents.Get(pool.IncidentID(name)); ok {
		return i, nil
	}
	var found []pool.Incident
	for _, i := range snap.Incidents.From(pool.IncidentID(name)) {
		if !strings.HasPrefix(string(i.ID), name) {
			break
		}
		found = append(found, i)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return pool.Incident{}, fmt.Errorf("no incident %s is on record: %w", clean(name), pool.ErrNotFound)
	}
	return pool.Incident{}, fmt.Errorf("incident %s: %d begin so; write more of it: %w", clean(name), len(found), pool.ErrInvalid)
}
