package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func (j *judge) libvirt() {
	l := j.f.Libvirt
	if l.Err != "" {
		j.add("libvirt", Fail, "see that libvirtd or virtqemud runs, and the setting libvirt", "%s", l.Err)
		return
	}
	j.add("libvirt", OK, "", "%d CPUs, %d GiB of memory", l.CPUs, l.MemoryBytes>>30)
}

// storage: every directory of this server's settings must be there on every server.
func (j *judge) storage() {
	const fix = "mount it there at the same path, and list it under storage in the settings"
	if len(j.f.Storage) == 0 {
		j.add("storage", Warn, "list the directories of the VMs' disks under storage in the settings: a lost path is then noticed", "no shared storage is configured here")
		return
	}
	var missing, unknown []string
	for _, id := range j.peers(true) {
		p := j.f.Peers[id]
		if p.StorageErr != "" {
			unknown = append(unknown, fmt.Sprintf("%s: %s", id, p.StorageErr))
		}
		for _, what := range p.MissingStorage {
			missing = append(missing, fmt.Sprintf("%s: %s", id, what))
		}
	}
	switch {
	case len(missing) > 0:
		j.add("storage", Fail, fix, "%s", strings.Join(missing, "; "))
	case len(unknown) > 0:
		j.add("storage", Fail, "see that libvirt and holdfast-agent run there", "could not look: %s", strings.Join(unknown, "; "))
	default:
		j.add("storage", OK, "", "%s is there on every server that answers", strings.Join(j.f.Storage, ", "))
	}
}

func (j *judge) cpus() {
	var lacks []string
	for _, id := range j.peers(true) {
		if l := j.f.Peers[id].CPULacks; len(l) > 0 {
			lacks = append(lacks, fmt.Sprintf("%s lacks %s", id, strings.Join(l, ", ")))
		}
	}
	if j.f.Libvirt.Err != "" {
		j.add("CPUs", Warn, "see the line libvirt", "not known")
		return
	}
	if len(lacks) > 0 {
		j.add("CPUs", Warn, "give VMs a CPU model that every server has, not host-model or host-passthrough; they restart anywhere, but do not migrate live", "of this server's CPU: %s", strings.Join(lacks, "; "))
		return
	}
	j.add("CPUs", OK, "", "every server that answers has what this server's CPU offers")
}

func (j *judge) uuids() {
	const fix = "set host_uuid in libvirtd.conf (virtqemud.conf) of one of them, from uuidgen, restart libvirt, and join again"
	if j.f.Pool == nil {
		j.add("host UUIDs", Fail, "see the line pool", "not known")
		return
	}
	by := map[string][]pool.ServerID{}
	for id, s := range j.f.Pool.Servers.All() {
		if s.HostUUID != "" {
			by[strings.ToLower(s.HostUUID)] = append(by[strings.ToLower(s.HostUUID)], id)
		}
	}
	for _, uuid := range slices.Sorted(maps.Keys(by)) {
		if len(by[uuid]) > 1 {
			j.add("host UUIDs", Fail, fix, "%s share the host UUID %s: libvirt takes them for one machine and refuses live migration between them", join(by[uuid]), uuid)
			return
		}
	}
	own, _ := j.f.Pool.Servers.Get(j.f.Server)
	if own.HostUUID != "" && j.f.Libvirt.HostUUID != "" && !strings.EqualFold(own.HostUUID, j.f.Libvirt.HostUUID) {
		j.add("host UUIDs", Warn, "if the machine was exchanged: remove the server from the pool and join again", "registered with %s, libvirt here says %s", own.HostUUID, j.f.Libvirt.HostUUID)
		return
	}
	j.add("host UUIDs", OK, "", "all differ")
}

func (j *judge) guards() {
	if j.f.GuardErr != "" {
		j.add("guard", Fail, "systemctl restart holdfast-guard", "the guard here does not answer: %s", j.f.GuardErr)
		return
	}
	var without []pool.ServerID
	for _, id := range j.peers(true) {
		if !j.f.Peers[id].Guard {
			without = append(without, id)
		}
	}
	if len(without) > 0 {
		j.add("guard", Fail, "systemctl restart holdfast-guard there", "the guard of %s does not answer", join(without))
		return
	}
	j.add("guard", OK, "", "the guards of all servers that answer are there")
}

func (j *judge) watchdog() {
	w := j.f.Watchdog
	switch {
	case w.Wanted == "off":
		j.add("watchdog", Warn, "set guard.watchdog to auto if the machine has one", "switched off: a server that is frozen as a whole is stopped by disk locks and power fencing only")
	case w.Device == "":
		j.add("watchdog", Warn, "load the machine's watchdog driver (iTCO_wdt, sp5100_tco, ipmi_watchdog), or rely on power fencing", "there is no watchdog device")
	case w.Owner != "" && !strings.Contains(w.Owner, "holdfast-agent"):
		j.add("watchdog", Fail, "take it from there (RuntimeWatchdogSec= in systemd's system.conf, the watchdog daemon), or set guard.watchdog to off", "%s is held by %s: the guard cannot have it", w.Device, w.Owner)
	case w.Software:
		j.add("watchdog", Warn, "use a hardware watchdog; softdog stops with a frozen host and proves no more than the guard", "%s is the kernel's softdog", w.Device)
	case w.Owner == "":
		j.add("watchdog", Warn, "systemctl restart holdfast-guard; its journal says why", "%s (%s) is held by nobody", w.Device, w.Identity)
	default:
		j.add("watchdog", OK, "", "%s (%s), held by %s", w.Device, w.Identity, w.Owner)
	}
}

func (j *judge) fencing() {
	var wrong []string
	for _, id := range slices.Sorted(maps.Keys(j.f.Fences)) {
		if why := j.f.Fences[id]; why != "" {
			wrong = append(wrong, fmt.Sprintf("%s: %s", id, why))
		}
	}
	total := len(j.f.Peers)
	switch {
	case len(wrong) > 0:
		j.add("power fencing", Fail, "holdfast server fence SERVER FILE; try the fence agent by hand with -o status", "from here: %s", strings.Join(wrong, "; "))
	case len(j.f.Fences) == 0:
		j.add("power fencing", Warn, "holdfast server fence SERVER FILE, where servers have IPMI, Redfish or a switched power strip", "not set up: proof rests on guard and disk locks, or a watchdog; VMs on bare block devices wait for a person")
	case len(j.f.Fences) < total:
		j.add("power fencing", Warn, "holdfast server fence SERVER FILE for the others", "set up for %d of %d servers; those answer", len(j.f.Fences), total)
	default:
		j.add("power fencing", OK, "", "every server's switch answers from here, and says on")
	}
}

func (j *judge) paths() {
	p := j.f.Paths
	const fix = "bond two links, or put etcd on a network of its own: with one path its switch is all it takes to isolate a server"
	switch {
	case p.Err != "":
		j.add("network", Warn, "see the setting address", "%s", p.Err)
	case len(p.Links) > 1:
		j.add("network", OK, "", "%s has %d links: %s", p.Interface, len(p.Links), strings.Join(p.Links, ", "))
	case p.Apart:
		j.add("network", OK, "", "etcd and the agents use different networks")
	default:
		j.add("network", Warn, fix, "everything goes through %s", p.Interface)
	}
}

func (j *judge) ha() {
	switch s := j.f.Pool; {
	case s == nil:
		j.add("HA", Fail, "see the line pool", "not known")
	case !s.Config.HA:
		j.add("HA", Warn, "holdfast ha on", "the pool's HA is off: nothing is restarted elsewhere")
	case s.Config.Frozen:
		j.add("HA", Warn, "holdfast unfreeze", "HA is frozen: nothing is fenced, moved or restarted")
	case s.Alerts.Len() > 0:
		j.add("HA", Warn, "holdfast alerts", "on, with %d open alerts", s.Alerts.Len())
	default:
		j.add("HA", OK, "", "on")
	}
}
