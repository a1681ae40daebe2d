package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Kinds of alert that the leader raises and clears. Alerts of other kinds are not its own and stay.
const (
	AlertServerLost pool.AlertKind = "SERVER_LOST"
	AlertFencing    pool.AlertKind = "WAITING_FOR_FENCING"
	AlertVMWaiting  pool.AlertKind = "VM_WAITING"
	AlertVMFailed   pool.AlertKind = "VM_FAILED"
	AlertVMLost     pool.AlertKind = "VM_LOST"
	AlertCorrupt    pool.AlertKind = "CORRUPT_KEY"
	AlertFrozen     pool.AlertKind = "HA_FROZEN"
	AlertSuspect    pool.AlertKind = "SERVER_SUSPECT"
	AlertSwitch     pool.AlertKind = "POWER_SWITCH"
	AlertPowerOn    pool.AlertKind = "POWER_ON"
	AlertStorage    pool.AlertKind = "STORAGE_LOST"
	AlertCapacity   pool.AlertKind = "CAPACITY"
)

var ownAlerts = []pool.AlertKind{AlertServerLost, AlertFencing, AlertVMWaiting, AlertVMFailed, AlertVMLost, AlertCorrupt, AlertFrozen, AlertNoPause, AlertSuspect, AlertSwitch, AlertPowerOn, AlertStorage, AlertCapacity, AlertTrouble, AlertBlocked}

// raised is an alert that should be open, and the event that goes with its opening.
type raised struct {
	pool.Alert
	event string
}

// planAlerts opens, rewords and closes alerts so that exactly the present problems are open. Their texts hold nothing
// that changes by the passing of time alone.
func (p *planner) planAlerts() {
	want := map[pool.AlertID]raised{}
	raise := func(id string, kind pool.AlertKind, s pool.ServerID, vm pool.VMID, event, text string) {
		a := pool.Alert{ID: pool.AlertID(id), Kind: kind, Server: s, VM: vm, Text: text, Since: p.in.Wall}
		want[a.ID] = raised{a, event}
	}
	p.serverAlerts(raise)
	p.vmAlerts(raise)
	p.poolAlerts(raise)
	p.pauseAlerts(raise)
	p.promiseAlert(raise)
	p.troubleAlerts(raise)
	p.foreignAlerts()
	for _, id := range slices.Sorted(maps.Keys(want)) {
		r := want[id]
		if r.Kind == AlertFencing {
			r.Tried = p.server(r.Server).ladder.tried
		}
		p.open(r)
	}
	for id, a := range p.snap.Alerts.All() {
		if _, still := want[id]; !still && slices.Contains(ownAlerts, a.Kind) {
			p.clear(a)
		}
	}
}

type raiseFunc func(id string, kind pool.AlertKind, s pool.ServerID, vm pool.VMID, event, text string)

func (p *planner) open(r raised) {
	old, ok := p.snap.Alerts.Get(r.ID)
	if ok && old.Text == r.Text && old.Kind == r.Kind && slices.Equal(old.Tried, r.Tried) {
		return
	}
	a := Action{Kind: RaiseAlert, Key: "alert:" + string(r.ID), VM: r.VM, Server: r.Server, Why: r.Text}
	if by := p.doneBy[r.VM]; by != "" {
		a.Needs = []string{by}
	}
	if ok {
		r.Since = old.Since
	} else if r.event != "" {
		a.Change.Events = []pool.Event{p.event(r.event, r.Server, r.VM, r.Text)}
	}
	a.Change.Alerts = []pool.Alert{r.Alert}
	p.add(a)
}

func (p *planner) clear(old pool.Alert) {
	a := Action{Kind: ClearAlert, Key: "alert:" + string(old.ID), VM: old.VM, Server: old.Server, Why: "over: " + old.Text,
		Change: pool.Change{RemoveAlerts: []pool.AlertID{old.ID}}}
	if by := p.doneBy[old.VM]; by != "" {
		a.Needs = []string{by}
	}
	if old.Kind == AlertServerLost && p.server(old.Server).up {
		a.Why = fmt.Sprintf("%s is back", old.Server)
		a.Change.Events = []pool.Event{p.event("SERVER_BACK", old.Server, "", a.Why)}
	}
	if old.Kind == AlertCapacity {
		a.Change.Events = []pool.Event{p.event("CAPACITY_KEPT", "", "", "there is room for the loss of servers again, or none is promised any more")}
	}
	p.add(a)
}

// serverAlerts: lost servers, and those whose VMs wait for a proof that will not come by itself.
func (p *planner) serverAlerts(raise raiseFunc) {
	lostBy := map[pool.ServerID]int{}
	for _, l := range p.lost {
		lostBy[l.server]++
	}
	for _, id := range slices.Sorted(maps.Keys(p.servers)) {
		s := p.servers[id]
		p.powerAlerts(s, raise)
		if p.tellSuspect(s) {
			raise("server-suspect-"+string(id), AlertSuspect, id, "", "SERVER_SUSPECT", p.suspectText(s))
		}
		if s.up && !s.fencedUp() && s.member.StorageLost {
			raise("storage-lost-"+string(id), AlertStorage, id, "", "STORAGE_LOST",
				fmt.Sprintf("%s has lost its path to the shared storage: no VM is started there, and those with HA move to a server that has it", id))
		}
		if s.up && !s.fencedUp() || s.unreadable || !p.missed(s) {
			continue
		}
		raise("server-lost-"+string(id), AlertServerLost, id, "", "SERVER_LOST", p.lostText(s, lostBy[id]))
		if (s.ladder.stuck || s.ladder.spared) && !p.cfg.Frozen {
			raise("fencing-"+string(id), AlertFencing, id, "", "WAITING_FOR_FENCING", s.ladder.text(id))
		}
	}
}

// missed reports whether a server that is not up should be: not one that was shut down, emptied for maintenance or is
// being removed, unless it still owns VMs.
func (p *planner) missed(s *server) bool {
	vms, _, _ := p.load.Promised(s.id)
	if vms > 0 || s.registration == nil {
		return true
	}
	r := s.registration
	if r.Awaited {
		return false
	}
	return !r.ShuttingDown && !r.Maintenance && !r.Removing
}

func (p *planner) lostText(s *server, withoutHA int) string {
	text := string(s.id) + " is lost: its session ended without a release"
	open := 0
	if !p.cfg.Frozen {
		open = len(p.uncovered(s))
	}
	switch {
	case open > 0:
		text += fmt.Sprintf("; %s on it waiting for fencing", count(open, "protected VM"))
	case s.hasFence:
		text += "; it is fenced by " + s.fence.Proof.String()
	}
	if withoutHA > 0 {
		text += fmt.Sprintf("; %s without HA went with it", count(withoutHA, "VM"))
	}
	return text
}

// vmAlerts: VMs that wait for a server, that failed, or that are lost without HA.
func (p *planner) vmAlerts(raise raiseFunc) {
	for _, id := range slices.Sorted(maps.Keys(p.waiting)) {
		raise("vm-waiting-"+string(id), AlertVMWaiting, "", id, "VM_WAITING", fmt.Sprintf("%s waits: %s", id, p.waiting[id].Gist))
	}
	for id := range p.snap.Homes.All() {
		p.failedAlert(id, raise)
	}
	for id := range p.homes {
		p.failedAlert(id, raise)
	}
	for _, l := range p.lost {
		raise("vm-lost-"+string(l.vm), AlertVMLost, l.server, l.vm, "VM_LOST",
			fmt.Sprintf("%s is lost with %s and not restarted elsewhere: %s", l.vm, l.server, l.why))
	}
}

func (p *planner) failedAlert(id pool.VMID, raise raiseFunc) {
	vm, ok := p.snap.VMs.Get(id)
	if h := p.homeAfter(id); h.Failed && ok && vm.Desired == pool.DesiredRunning {
		raise("vm-failed-"+string(id), AlertVMFailed, "", id, "", fmt.Sprintf("%s has failed: %s; clear %s when the cause is mended", id, h.FailedReason, id))
	}
}

// poolAlerts: HA that is frozen, and values in etcd that cannot be read.
func (p *planner) poolAlerts(raise raiseFunc) {
	if p.cfg.HA && p.cfg.Frozen {
		raise("ha-frozen", AlertFrozen, "", "", "", "HA is frozen"+by(p.cfg.FrozenMark)+": nothing is fenced, moved or restarted")
	}
	for key, why := range p.snap.Corrupt.All() {
		raise("corrupt-"+tail(key), AlertCorrupt, "", "", "CORRUPT_KEY", fmt.Sprintf("%s cannot be read, what belongs to it is left alone: %s", key, why))
	}
}

// tail makes an alert's name of the last two parts of a key.
func tail(key string) string {
	parts := strings.Split(strings.Trim(key, "/"), "/")
	return strings.Join(parts[max(len(parts)-2, 0):], "-")
}
