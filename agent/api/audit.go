package api

import (
	"bytes"
	"context"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/wire"
)

// maxAudit bounds what an event says of a change before and after, in bytes each; what is longer is named only.
const maxAudit = 4 << 10

// audited adds to the events of a change the call that makes it: who, from where, by which request, and what was
// before and after. A change without an event gets one. Where there is no call, as in the simulator, nothing is added.
func (s *Server) audited(ctx context.Context, snap *pool.Snapshot, c pool.Change) pool.Change {
	a := rpc.AuditOf(ctx)
	if a == nil {
		return c
	}
	a.Before, a.After = changed(snap, c)
	if len(c.Events) == 0 {
		by := rpc.IdentityFrom(ctx).Name
		c.Events = []pool.Event{{At: s.cfg.Clock.Wall(), Kind: "CALL", Actor: by, Text: by + " called " + a.Method}}
	}
	events := make([]pool.Event, len(c.Events))
	for i, e := range c.Events {
		e.Audit = a
		events[i] = e
	}
	c.Events = events
	return c
}

// difference collects what a change makes different, by record.
type difference struct {
	before, after map[string]map[string]json.RawMessage
}

// changed returns JSON of the fields that c changes, as they are in snap and as they will be.
func changed(snap *pool.Snapshot, c pool.Change) (before, after string) {
	d := &difference{map[string]map[string]json.RawMessage{}, map[string]map[string]json.RawMessage{}}
	if c.Config != nil {
		d.add("config", wire.Config(snap.Config), wire.Config(*c.Config))
	}
	for _, v := range c.Servers {
		old, ok := snap.Servers.Get(v.ID)
		d.add("servers/"+string(v.ID), message(ok, old, wire.Server), wire.Server(v))
	}
	for _, v := range c.RemoveServers {
		d.add("servers/"+string(v.ID), wire.Server(v), nil)
	}
	for _, v := range c.VMs {
		old, ok := snap.VMs.Get(v.ID)
		d.add("vms/"+string(v.ID), message(ok, old, wire.VM), wire.VM(v))
	}
	for _, v := range c.RemoveVMs {
		d.add("vms/"+string(v.ID), wire.VM(v), nil)
	}
	for _, v := range c.Homes {
		old, ok := snap.Homes.Get(v.VM)
		d.add("homes/"+string(v.VM), message(ok, old, wire.Home), wire.Home(v))
	}
	for _, v := range c.Fences {
		old, ok := snap.Fences.Get(v.Server)
		d.add("fences/"+string(v.Server), message(ok, old, wire.Fence), wire.Fence(v))
	}
	for _, v := range c.Operations {
		old, ok := snap.Operations.Get(v.ID)
		d.add("operations/"+string(v.ID), message(ok, old, wire.Operation), wire.Operation(v))
	}
	for _, v := range c.Revocations {
		old, ok := snap.Revocations.Get(v.ID)
		d.add("revoked/"+string(v.ID), message(ok, old, wire.Revocation), wire.Revocation(v))
	}
	return encode(d.before), encode(d.after)
}

// message encodes a record that is there; nil for one that is not.
func message[V any, M proto.Message](ok bool, v V, f func(V) M) proto.Message {
	if !ok {
		return nil
	}
	return f(v)
}

// add compares two states of a record; nil: it is not there.
func (d *difference) add(key string, before, after proto.Message) {
	old, now := fieldsOf(before), fieldsOf(after)
	if old != nil && now != nil {
		for name, v := range old {
			if bytes.Equal(v, now[name]) {
				delete(old, name)
				delete(now, name)
			}
		}
	}
	d.before[key], d.after[key] = old, now
}

// fieldsOf returns a message's fields as JSON; the definition of a VM is only said to be there.
func fieldsOf(m proto.Message) map[string]json.RawMessage {
	if m == nil {
		return nil
	}
	fields := map[string]json.RawMessage{}
	data, err := protojson.Marshal(m)
	if err != nil || json.Unmarshal(data, &fields) != nil {
		return map[string]json.RawMessage{"unreadable": json.RawMessage("true")}
	}
	if xml, ok := fields["xml"]; ok {
		fields["xml"] = json.RawMessage(`"(` + digest(xml) + `)"`)
	}
	for name, v := range fields {
		var compact bytes.Buffer
		if json.Compact(&compact, v) == nil { // protojson puts spaces as it likes
			fields[name] = compact.Bytes()
		}
	}
	return fields
}

// encode writes a difference; one that is too long only names the records.
func encode(d map[string]map[string]json.RawMessage) string {
	data, err := json.Marshal(d)
	if err == nil && len(data) <= maxAudit {
		return string(data)
	}
	names := make(map[string]string, len(d))
	for key := range d {
		if len(names) < maxNamed {
			names[key] = "too long to show"
		}
	}
	if data, err = json.Marshal(names); err != nil {
		return ""
	}
	return string(data)
}
