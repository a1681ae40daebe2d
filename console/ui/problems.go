package ui

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// problem is one thing that is wrong: what it is about and one sentence.
type problem struct {
	id, server, vm string
	text           string
	since          time.Time
}

// problems are all that is wrong in a pool: open alerts, what cannot be read, and servers and VMs in a bad state that
// no alert speaks of. VMs are kept as they are, since they change all the time and few of them are on the screen.
type problems struct {
	// general are those that are not about the state of a VM, in order.
	general []problem
	// vms are the VMs in a bad state, by name, and alerted those that an alert speaks of.
	vms     []*pb.VMView
	alerted map[string]bool
	// fencing is, by server, the alert that it waits for fencing, which the reasons of its VMs repeat.
	fencing map[string]string
}

// count is how many there are.
func (p *problems) count() int {
	n := len(p.general) + len(p.vms)
	for id := range p.alerted {
		if _, bad := p.find(id); bad {
			n--
		}
	}
	return n
}

// first are at most n problems, in order.
func (p *problems) first(n int) []problem {
	out := slices.Clone(p.general[:min(n, len(p.general))])
	for _, v := range p.vms {
		if len(out) >= n {
			break
		}
		if !p.alerted[v.GetVm().GetId()] {
			out = append(out, p.ofVM(v))
		}
	}
	return out
}

func (p *problems) find(id string) (int, bool) {
	return slices.BinarySearchFunc(p.vms, id, func(v *pb.VMView, id string) int { return strings.Compare(v.GetVm().GetId(), id) })
}

// replace takes one VM in the place of what it was before.
func (p *problems) replace(before, after *pb.VMView) {
	was, is := vmTone(before.GetStatus()) == bad, vmTone(after.GetStatus()) == bad
	if !was && !is {
		return
	}
	switch i, found := p.find(after.GetVm().GetId()); {
	case found && is:
		p.vms[i] = after
	case found:
		p.vms = slices.Delete(p.vms, i, i+1)
	case is:
		p.vms = slices.Insert(p.vms, i, after)
	}
}

// collect looks at all VMs anew.
func (p *problems) collect(v *feed.View) {
	p.vms = nil
	for _, x := range v.VMs {
		if vmTone(x.GetStatus()) == bad {
			p.vms = append(p.vms, x)
		}
	}
}

// look takes what is said about the pool and its servers.
func (p *problems) look(v *feed.View) {
	p.general, p.alerted, p.fencing = nil, map[string]bool{}, map[string]string{}
	servers := map[string]bool{}
	for _, a := range v.Pool.GetAlerts() {
		servers[a.GetServer()], p.alerted[a.GetVm()] = true, true
		if len(a.GetTried()) > 0 {
			p.fencing[a.GetServer()] = a.GetText()
		}
		p.general = append(p.general, problem{id: "alert " + a.GetId(), server: a.GetServer(), vm: a.GetVm(), text: a.GetText(), since: a.GetSince().AsTime()})
	}
	for key, why := range v.Pool.GetCorruptKeys() {
		p.general = append(p.general, problem{id: "key " + key, text: key + " in etcd cannot be read: " + why})
	}
	for _, s := range v.Servers {
		if id := s.GetServer().GetId(); serverTone(s) == bad && !servers[id] {
			p.general = append(p.general, problem{id: "server " + id, server: id, text: withReason(id+" is "+serverWords(s), s.GetReason())})
		}
	}
	slices.SortStableFunc(p.general, func(a, b problem) int {
		if c := strings.Compare(a.id[:3], b.id[:3]); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
}

func (p *problems) ofVM(v *pb.VMView) problem {
	id := v.GetVm().GetId()
	return problem{id: "vm " + id, vm: id, text: withReason(id+" is "+word(v.GetStatus()), p.reason(v)), since: v.GetSince().AsTime()}
}

// reason is why a VM is as it is. What the alert of its server tells at length is not told again for each of its VMs.
func (p *problems) reason(v *pb.VMView) string {
	text := p.fencing[vmServer(v)]
	if rest, same := strings.CutPrefix(v.GetReason(), text); same && text != "" {
		return "fencing " + vmServer(v) + " first" + rest
	}
	return v.GetReason()
}

func withReason(s, reason string) string {
	if reason == "" {
		return s
	}
	return s + ": " + reason
}
