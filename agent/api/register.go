package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Bounds of a registration.
const (
	// maxXML bounds a definition, in bytes; real ones are below 100 KiB.
	maxXML = 512 << 10
	// inspectLimit bounds one server's look at a definition.
	inspectLimit = 10 * time.Second
)

// registration is a definition on its way into the pool.
type registration struct {
	def   Definition
	found *FoundDomain
	notes []string
	lacks map[pool.ServerID][]string
	// unlocked: a server's file system keeps no locks for one of the disks.
	unlocked bool
}

// RegisterVM registers a VM from XML, or adopts a libvirt domain as it is.
func (s *Server) RegisterVM(ctx context.Context, r *pb.RegisterVMRequest) (*pb.RegisterVMResponse, error) {
	m, err := s.mark(ctx, "")
	if err != nil {
		return nil, err
	}
	snap, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	reg, err := s.definition(ctx, snap, r)
	if err != nil {
		return nil, err
	}
	vm := pool.DefaultVM(pool.VMID(reg.def.Name))
	vm.UUID, vm.XML, vm.MemoryBytes, vm.CPUs = reg.def.UUID, reg.def.XML, reg.def.MemoryBytes, reg.def.CPUs
	vm.Needs, vm.DiskLocks, vm.Movable = reg.def.Needs, reg.def.DiskLocks, reg.def.Movable
	vm.DesiredMark = m
	if reg.found != nil && reg.found.Running {
		vm.Desired = pool.DesiredRunning
	}
	if err := s.inspect(ctx, snap, vm, reg); err != nil {
		return nil, err
	}
	vm.DiskLocks = vm.DiskLocks && !reg.unlocked
	err = s.applyRetry(ctx, func(snap *pool.Snapshot) (pool.Change, error) { return s.registerChange(snap, vm, reg, r.GetSet(), m) })
	if err != nil {
		return nil, err
	}
	s.awaitLacks(ctx, vm.ID, reg.lacks)
	view, err := s.vmView(vm.ID, false)
	return &pb.RegisterVMResponse{Vm: view, Notes: reg.notes}, err
}

// noAnswer is what a server lacks that could not be asked.
const noAnswer = "an answer"

// lacksLimit bounds awaitLacks. Servers look at a new registration at once, so it is met only by one that hangs.
const lacksLimit = 3 * time.Second

// awaitLacks waits until the servers' own records say what they lack for a new VM. Placement and the checks of HA go
// by these records: a VM that is started, or given HA, right after its registration must not be taken for one that
// every server can run.
func (s *Server) awaitLacks(ctx context.Context, vm pool.VMID, lacks map[pool.ServerID][]string) {
	ctx, cancel := s.cfg.Clock.WithTimeout(ctx, lacksLimit)
	defer cancel()
	sig := s.cfg.Clock.NewSignal()
	defer s.cfg.Pool.Subscribe(sig)()
	for ctx.Err() == nil && !lacksKnown(s.cfg.Pool.Snapshot(), vm, lacks) {
		sig.Wait(ctx, lacksLimit)
	}
}

// lacksKnown reports whether every member that was found to lack something says so.
func lacksKnown(snap *pool.Snapshot, vm pool.VMID, lacks map[pool.ServerID][]string) bool {
	for id, m := range snap.Members.All() {
		if found := lacks[id]; len(found) > 0 && found[0] != noAnswer && len(m.Lacks[vm]) == 0 {
			return false
		}
	}
	return true
}

// registerChange is the transaction: the registration and its claim, together, only if neither name nor UUID is taken.
func (s *Server) registerChange(snap *pool.Snapshot, vm pool.VM, reg *registration, set map[string]string, m pool.Mark) (pool.Change, error) {
	if snap.VMs.Has(vm.ID) {
		return pool.Change{}, fmt.Errorf("a vm named %s is registered already; rename this one, or remove that: %w", vm.ID, pool.ErrExists)
	}
	for id, other := range snap.VMs.All() {
		if strings.EqualFold(other.UUID, vm.UUID) {
			return pool.Change{}, fmt.Errorf("UUID %s belongs to the registered vm %s; give this one another: %w", vm.UUID, id, pool.ErrExists)
		}
	}
	set = maps.Clone(set)
	if on, ok := set["ha"]; ok {
		delete(set, "ha")
		ha, err := pool.ParseSwitch(on)
		if err != nil {
			return pool.Change{}, fmt.Errorf("ha: %w", err)
		}
		vm.HA, vm.HAMark = ha, m
		if able := snap.Members.Len() - len(reg.lacks); ha && able < 2 {
			return pool.Change{}, pool.Refuse("NO_SECOND_SERVER", "register it with ha=off, or give a second server what it lacks",
				"HA cannot protect %s: only %d server can run it (%s)", vm.ID, able, strings.Join(reg.notes, "; "))
		}
	}
	if err := applySettings(snap, &vm, set); err != nil {
		return pool.Change{}, err
	}
	claim := pool.Claim{VM: vm.ID, Phase: pool.PhaseUnassigned, Cause: pool.CauseStopped, Detail: "registered", Since: m.At, Incarnation: snap.Config.Incarnation}
	text := "%s registered %s"
	if f := reg.found; f != nil && f.Running {
		member, ok := snap.Members.Get(f.Server)
		if !ok {
			return pool.Change{}, pool.Refuse("SERVER_LOST", "", "server %s, where %s runs, is not a member now", f.Server, vm.ID)
		}
		claim.Phase, claim.Server, claim.Session, claim.Epoch = pool.PhaseAssigned, f.Server, member.Session, 1
		claim.Cause, claim.Detail, claim.LastServer = pool.CauseUnspecified, "", f.Server
		text = "%s registered %s, which goes on running on " + string(f.Server)
	}
	change := pool.Change{VMs: []pool.VM{vm}, Claims: []pool.Claim{claim},
		Events: []pool.Event{s.event("VM_REGISTERED", m, claim.Server, vm.ID, text, m.By, vm.ID)}}
	if len(reg.def.Passwords) > 0 {
		change.Secrets = []pool.Secrets{{VM: vm.ID, Passwords: reg.def.Passwords}}
	}
	return change, nil
}

// definition reads the XML that was given, or that of the domain that was named.
func (s *Server) definition(ctx context.Context, snap *pool.Snapshot, r *pb.RegisterVMRequest) (*registration, error) {
	if (r.GetXml() == "") == (r.GetDomain() == "") {
		return nil, fmt.Errorf("give either xml or domain: %w", pool.ErrInvalid)
	}
	if len(r.GetXml()) > maxXML {
		return nil, fmt.Errorf("xml: %d bytes; at most %d: %w", len(r.GetXml()), maxXML, pool.ErrInvalid)
	}
	reg := &registration{lacks: map[pool.ServerID][]string{}}
	xml := r.GetXml()
	if r.GetDomain() != "" {
		found, err := s.findDomain(ctx, snap, r.GetDomain(), r.GetServer())
		if err != nil {
			return nil, err
		}
		reg.found, xml = &found, found.XML
	}
	def, err := s.cfg.Definitions.Parse(xml)
	if err != nil {
		return nil, err
	}
	reg.def, reg.notes = def, slices.Clone(def.Notes)
	if reg.found != nil && reg.found.Autostart {
		reg.notes = append(reg.notes, "autostart was on; it is switched off, since the pool starts it now")
	}
	return reg, pool.CheckName("vm", def.Name)
}

// findDomain looks for a libvirt domain on the named server, or on all.
func (s *Server) findDomain(ctx context.Context, snap *pool.Snapshot, name, server string) (FoundDomain, error) {
	if err := pool.CheckName("domain", name); err != nil {
		return FoundDomain{}, err
	}
	where := snap.Members.Keys()
	if server != "" {
		srv, err := findServer(snap, server)
		if err != nil {
			return FoundDomain{}, err
		}
		where = []pool.ServerID{srv.ID}
	}
	var found []FoundDomain
	var troubles []string
	for _, id := range where {
		d, ok, err := s.cfg.Servers.Lookup(ctx, id, name)
		if err != nil {
			troubles = append(troubles, fmt.Sprintf("%s: %v", id, err))
		}
		if err == nil && ok {
			found = append(found, d)
		}
	}
	return oneDomain(name, found, troubles)
}

func oneDomain(name string, found []FoundDomain, troubles []string) (FoundDomain, error) {
	running := slices.DeleteFunc(slices.Clone(found), func(d FoundDomain) bool { return !d.Running })
	switch {
	case len(running) > 1:
		return FoundDomain{}, pool.Refuse("RUNS_TWICE", "stop all but one of them first; their disks may be damaged already",
			"%s runs on %s and on %s", name, running[0].Server, running[1].Server)
	case len(running) == 1:
		found = running
	case len(found) == 0 && len(troubles) > 0:
		return FoundDomain{}, fmt.Errorf("no domain %s found; these servers could not be asked: %s: %w", name, strings.Join(troubles, "; "), pool.ErrUnavailable)
	case len(found) == 0:
		return FoundDomain{}, fmt.Errorf("no server's libvirt has a domain %s: %w", name, pool.ErrNotFound)
	case len(found) > 1:
		return FoundDomain{}, pool.Refuse("AMBIGUOUS", "name the server whose definition counts",
			"%s is defined on %s and on %s", name, found[0].Server, found[1].Server)
	}
	if owner := found[0].OwnedBy; owner != "" {
		return FoundDomain{}, pool.Refuse("OWNED", "remove it from there first", "%s on %s belongs to the pool %s already", name, found[0].Server, owner)
	}
	return found[0], nil
}

// inspect asks every member whether it can run vm. It is refused if nobody can, or if libvirt rejects it.
func (s *Server) inspect(ctx context.Context, snap *pool.Snapshot, vm pool.VM, reg *registration) error {
	able := 0
	results := make([]Inspection, snap.Members.Len())
	errs := make([]error, snap.Members.Len())
	g := clock.NewGroup(s.cfg.Clock)
	for i, id := range snap.Members.Keys() {
		g.Go("inspect on "+string(id), func() {
			ictx, cancel := s.cfg.Clock.WithTimeout(ctx, inspectLimit)
			defer cancel()
			results[i], errs[i] = s.cfg.Servers.Inspect(ictx, id, vm.XML, vm.Needs)
		})
	}
	g.Wait()
	for i, id := range snap.Members.Keys() {
		in := results[i]
		if len(in.Unlocked) > 0 {
			reg.unlocked = true
			reg.notes = append(reg.notes, fmt.Sprintf("no locks between servers on %s for %s: the guard alone is no proof for it", id, strings.Join(in.Unlocked, ", ")))
		}
		switch {
		case errs[i] != nil:
			reg.notes = append(reg.notes, fmt.Sprintf("%s could not be asked: %v", id, errs[i]))
			reg.lacks[id] = []string{noAnswer}
		case in.Rejected != "":
			return fmt.Errorf("libvirt on %s rejects the definition: %s: %w", id, clean(in.Rejected), pool.ErrInvalid)
		case len(in.Missing) > 0:
			reg.notes = append(reg.notes, fmt.Sprintf("%s lacks %s", id, strings.Join(in.Missing, ", ")))
			reg.lacks[id] = in.Missing
		default:
			able++
		}
	}
	if able == 0 {
		return pool.Refuse("NO_SERVER", "", "no server can run %s: %s", vm.ID, strings.Join(reg.notes, "; "))
	}
	return nil
}
