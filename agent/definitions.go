package main

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/mesh"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// definitions reads domain XML for the API.
type definitions struct{}

var _ api.Definitions = definitions{}

// Parse checks and cleans an operator's domain XML.
func (definitions) Parse(xml string) (api.Definition, error) {
	text, d, err := definition.Register(xml, uuid.NewString)
	if err != nil {
		return api.Definition{}, err
	}
	return api.Definition{Name: d.Name, UUID: d.UUID, XML: text, MemoryBytes: d.MemoryBytes, CPUs: d.CPUs, Needs: d.Needs,
		DiskLocks: d.DiskLocks, Movable: d.Movable, Notes: slices.Concat(d.Notes, d.Unlocked, d.Fixed)}, nil
}

// host is this server as the other agents ask about it.
type host struct {
	virt  *virt.Adapter
	agent func() *app.Agent
}

var _ mesh.Host = host{}

func (h host) Session() pool.Session { return h.agent().Session() }
func (h host) Reachable() bool       { return h.agent().Reachable() }
func (h host) GuardAnswers() bool    { return h.agent().GuardAnswers() }

// Inspect checks whether this server can run a definition.
func (h host) Inspect(ctx context.Context, xml string, needs []pool.Need) (api.Inspection, error) {
	in, err := h.virt.Inspect(ctx, xml, needs)
	return api.Inspection{Missing: in.Missing, Rejected: in.Rejected, Unlocked: in.Unlocked}, err
}

// Lookup finds a domain in this server's libvirt.
func (h host) Lookup(ctx context.Context, name string) (api.FoundDomain, bool, error) {
	f, found, err := h.virt.LookupDomain(ctx, name)
	if err != nil || !found {
		return api.FoundDomain{}, false, err
	}
	d := api.FoundDomain{XML: f.XML, UUID: f.UUID, Running: f.Running, Persistent: f.Persistent, Autostart: f.Autostart}
	if f.Marker != nil {
		d.OwnedBy = f.Marker.Pool
	}
	return d, true, nil
}
