package main

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/mesh"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// definitions reads domain XML for the API.
type definitions struct{}

var (
	_ api.Definitions = definitions{}
	_ app.Passwords   = definitions{}
)

// Parse checks and cleans an operator's domain XML.
func (definitions) Parse(xml string) (api.Definition, error) {
	text, d, err := definition.Register(xml, uuid.NewString)
	if err != nil {
		return api.Definition{}, err
	}
	text, passwords, err := definition.TakeSecrets(text)
	if err != nil {
		return api.Definition{}, err
	}
	return api.Definition{Name: d.Name, UUID: d.UUID, XML: text, Passwords: passwords, MemoryBytes: d.MemoryBytes, CPUs: d.CPUs, Needs: d.Needs,
		DiskLocks: d.DiskLocks, Movable: d.Movable, Notes: slices.Concat(d.Notes, d.Unlocked, d.Fixed)}, nil
}

// Lack reports whether a definition has a place for a password that is empty.
func (definitions) Lack(xml string) (bool, error) { return definition.LacksSecrets(xml) }

// Put puts passwords back into a definition.
func (definitions) Put(xml string, passwords map[string]string) (string, error) {
	return definition.PutSecrets(xml, passwords)
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

// Silence implements mesh.Host.
func (h host) Silence(s pool.ServerID) time.Duration { return h.agent().Silence(s) }

// Inspect checks whether this server can run a definition.
func (h host) Inspect(ctx context.Context, xml string, needs []pool.Need) (api.Inspection, error) {
	if xml == "" {
		missing, err := h.virt.Missing(ctx, needs)
		return api.Inspection{Missing: missing}, err
	}
	in, err := h.virt.Inspect(ctx, xml, needs)
	return api.Inspection{Missing: in.Missing, Rejected: in.Rejected, Unlocked: in.Unlocked}, err
}

// AdmitIncoming reports whether this server takes a copy in.
func (h host) AdmitIncoming(ctx context.Context, op pool.OperationID, vm pool.VMID, epoch pool.Epoch) error {
	return h.agent().AdmitIncoming(ctx, op, vm, epoch)
}

// Incoming says how a copy stands here.
func (h host) Incoming(ctx context.Context, op pool.OperationID, vm pool.VMID, session pool.Session) (local.Confirmed, error) {
	return h.agent().Incoming(ctx, op, vm, session)
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
