package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestAVMIsRegisteredStoppedTogetherWithItsClaim(t *testing.T) {
	b := newBench(t)
	b.servers.missing = map[pool.ServerID][]string{"srv-3": {"bridge br5"}}
	b.sayLacks(t, "srv-3", "new", "bridge br5")
	r, err := b.RegisterVM(as(t), &pb.RegisterVMRequest{Xml: "new", Set: map[string]string{"priority": "high", "ha": "on"}})
	if err != nil {
		t.Fatal(err)
	}
	s := b.pool.Snapshot()
	vm, _ := s.VMs.Get("new")
	claim, ok := s.Claims.Get("new")
	if vm.Desired != pool.DesiredStopped || vm.Priority != pool.PriorityHigh || !vm.HA || !ok || claim.Phase != pool.PhaseUnassigned {
		t.Errorf("vm = %+v, claim = %+v", vm, claim)
	}
	if !strings.Contains(strings.Join(r.GetNotes(), "\n"), "srv-3 lacks bridge br5") {
		t.Errorf("notes = %q", r.GetNotes())
	}
	// What comes next, a start or HA, goes by the servers' records: they must say it by now.
	if m, _ := s.Members.Get("srv-3"); len(m.Lacks["new"]) == 0 {
		t.Error("the registration is answered before srv-3's own record says what it lacks")
	}
}

func TestPasswordsOfADefinitionAreKeptApartAndShownToNobody(t *testing.T) {
	b := newBench(t)
	r, err := b.RegisterVM(as(t), &pb.RegisterVMRequest{Xml: "new:hush"})
	if err != nil {
		t.Fatal(err)
	}
	if text := r.String(); strings.Contains(text, "hush") {
		t.Errorf("the answer tells it: %s", text)
	}
	last := b.pool.last
	if len(last.VMs) != 1 || len(last.Secrets) != 1 || last.Secrets[0].VM != "new" || last.Secrets[0].Passwords["graphics/vnc/0/passwd"] != "hush" {
		t.Errorf("the registration and its passwords are not one change: %+v", last)
	}
	if vm, _ := b.pool.Snapshot().VMs.Get("new"); strings.Contains(vm.XML, "hush") {
		t.Errorf("the registration holds it: %s", vm.XML)
	}
	if _, err := b.RegisterVM(as(t), &pb.RegisterVMRequest{Xml: "other"}); err != nil || len(b.pool.last.Secrets) != 0 {
		t.Errorf("without passwords: %v, %v", b.pool.last.Secrets, err)
	}
}

// sayLacks makes a server say in its record what it lacks for a VM, once that is registered, as its agent does.
func (b *bench) sayLacks(t *testing.T, server pool.ServerID, vm pool.VMID, lack string) {
	ctx, sig := t.Context(), clock.Real().NewSignal()
	cancel := b.pool.Subscribe(sig)
	go func() {
		defer cancel()
		for ctx.Err() == nil && !b.pool.Snapshot().VMs.Has(vm) {
			sig.Wait(ctx, time.Minute)
		}
		b.pool.change(func(s *pool.Snapshot) {
			m, _ := s.Members.Get(server)
			m.Lacks = map[pool.VMID][]string{vm: {lack}}
			s.Members = s.Members.With(server, m)
		})
	}()
}

func TestARunningDomainIsAdoptedWhereItRuns(t *testing.T) {
	b := newBench(t)
	b.servers.domains = map[pool.ServerID]FoundDomain{
		"srv-1": {XML: "app"},
		"srv-2": {XML: "app", Running: true, Persistent: true, Autostart: true},
	}
	r, err := b.RegisterVM(as(t), &pb.RegisterVMRequest{Domain: "app"})
	if err != nil {
		t.Fatal(err)
	}
	claim, _ := b.pool.Snapshot().Claims.Get("app")
	vm, _ := b.pool.Snapshot().VMs.Get("app")
	if claim.Server != "srv-2" || claim.Session != 21 || claim.Phase != pool.PhaseAssigned || vm.Desired != pool.DesiredRunning {
		t.Errorf("claim = %+v, desired %v", claim, vm.Desired)
	}
	if !strings.Contains(strings.Join(r.GetNotes(), "\n"), "autostart") {
		t.Errorf("notes = %q", r.GetNotes())
	}
}

func TestRegistrationsThatCannotBeAreRefusedAndLeaveNothing(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*bench)
		req     *pb.RegisterVMRequest
		kind    error
		words   string
	}{
		{"nothing given", nil, &pb.RegisterVMRequest{}, pool.ErrInvalid, "either xml or domain"},
		{"both given", nil, &pb.RegisterVMRequest{Xml: "a", Domain: "b"}, pool.ErrInvalid, "either xml or domain"},
		{"no definition", nil, &pb.RegisterVMRequest{Xml: "bad"}, pool.ErrInvalid, "<name>"},
		{"too large", nil, &pb.RegisterVMRequest{Xml: strings.Repeat("x", maxXML+1)}, pool.ErrInvalid, "at most"},
		{"a name with a control character", nil, &pb.RegisterVMRequest{Xml: "a\x07b"}, pool.ErrInvalid, "letters"},
		{"the name is taken", nil, &pb.RegisterVMRequest{Xml: "web"}, pool.ErrExists, "web"},
		{"the UUID is taken", func(b *bench) {
			b.pool.change(func(s *pool.Snapshot) {
				v, _ := s.VMs.Get("db")
				v.UUID = "UUID-OF-new"
				s.VMs = s.VMs.With("db", v)
			})
		}, &pb.RegisterVMRequest{Xml: "new"}, pool.ErrExists, "db"},
		{"libvirt rejects it", func(b *bench) { b.servers.rejects = "unsupported machine" }, &pb.RegisterVMRequest{Xml: "new"}, pool.ErrInvalid, "unsupported machine"},
		{"no server can run it", func(b *bench) {
			b.servers.missing = map[pool.ServerID][]string{"srv-1": {"x"}, "srv-2": {"x"}, "srv-3": {"x"}}
		}, &pb.RegisterVMRequest{Xml: "new"}, pool.ErrRefused, "srv-2 lacks x"},
		{"HA with one able server", func(b *bench) {
			b.servers.missing = map[pool.ServerID][]string{"srv-1": {"x"}, "srv-2": {"x"}}
		}, &pb.RegisterVMRequest{Xml: "new", Set: map[string]string{"ha": "on"}}, pool.ErrRefused, "only 1 server"},
		{"unknown setting", nil, &pb.RegisterVMRequest{Xml: "new", Set: map[string]string{"colour": "red"}}, pool.ErrInvalid, "colour"},
		{"no such domain", nil, &pb.RegisterVMRequest{Domain: "ghost"}, pool.ErrNotFound, "ghost"},
		{"no such domain, and somebody silent", func(b *bench) { b.servers.silent = map[pool.ServerID]bool{"srv-2": true} },
			&pb.RegisterVMRequest{Domain: "ghost"}, pool.ErrUnavailable, "srv-2"},
		{"it runs twice", func(b *bench) {
			b.servers.domains = map[pool.ServerID]FoundDomain{"srv-1": {XML: "app", Running: true}, "srv-2": {XML: "app", Running: true}}
		}, &pb.RegisterVMRequest{Domain: "app"}, pool.ErrRefused, "runs on srv-1 and on srv-2"},
		{"it belongs to another pool", func(b *bench) {
			b.servers.domains = map[pool.ServerID]FoundDomain{"srv-1": {XML: "app", Running: true, OwnedBy: "other"}}
		}, &pb.RegisterVMRequest{Domain: "app"}, pool.ErrRefused, "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			if tt.prepare != nil {
				tt.prepare(b)
			}
			before := b.pool.Snapshot()
			_, err := b.RegisterVM(as(t), tt.req)
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error = %v, want %v with %q", err, tt.kind, tt.words)
			}
			if b.pool.Snapshot() != before {
				t.Error("the pool was changed")
			}
		})
	}
}
