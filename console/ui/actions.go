package ui

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// allActions is every change that the console can ask for. A test sends each of them through a closed gate.
var allActions []*action

func init() {
	allActions = append(allActions, vmActions()...)
	allActions = append(allActions, serverActions()...)
	allActions = append(allActions, moveActions()...)
	allActions = append(allActions, maintenanceActions()...)
	allActions = append(allActions, cancelAction())
	allActions = append(allActions, poolActions()...)
}

const (
	isRunning = pb.VMStatus_VM_STATUS_RUNNING
	isStopped = pb.VMStatus_VM_STATUS_STOPPED
	isFailed  = pb.VMStatus_VM_STATUS_FAILED
)

func vmActions() []*action {
	return []*action{
		{
			name: "ha on", title: "HA on for", key: "H", kind: vmKind, weigh: always(light),
			refuse: func(m *Model, id string) string {
				if m.shown().VM(id).GetVm().GetHa() {
					return "its HA is on already"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, _ string) proto.Message {
				return &pb.SetVMHARequest{Vms: []string{id}, On: true, Why: in.why}
			},
			holds: func(v *feed.View, id string) bool { return v.VM(id).GetVm().GetHa() },
			about: func(m *Model, ids []string) lines {
				return m.sentences(plural(len(ids), "VM")+" will be started elsewhere when "+map[bool]string{true: "its", false: "their"}[len(ids) == 1]+" server fails.", poolHALine(m))
			},
		},
		{
			name: "ha off", title: "HA OFF for", key: "H", kind: vmKind, weigh: always(reasoned),
			refuse: func(m *Model, id string) string {
				if !m.shown().VM(id).GetVm().GetHa() {
					return "its HA is off already"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, _ string) proto.Message {
				return &pb.SetVMHARequest{Vms: []string{id}, On: false, Why: in.why}
			},
			holds: func(v *feed.View, id string) bool { return v.VM(id) != nil && !v.VM(id).GetVm().GetHa() },
			about: func(m *Model, ids []string) lines {
				return m.sentences("When their server fails, " + plural(len(ids), "VM") + " will stay down until that server is back.")
			},
		},
		power("start", "Start", "The pool chooses the server.", light, func(v *pb.VMView) string {
			switch v.GetStatus() {
			case isStopped:
				return ""
			case isFailed:
				return "the restart policy gave up: it must be cleared first"
			}
			return "it is " + word(v.GetStatus())
		}, func(id, why, rid string) proto.Message {
			return &pb.StartVMRequest{Vm: id, Why: why, RequestId: rid}
		}),
		power("stop", "Stop", "The guest is asked to shut down, and forced off when the pool's stop-limit has passed.", reasoned, whileOn, func(id, why, rid string) proto.Message {
			return &pb.StopVMRequest{Vm: id, Why: why, RequestId: rid}
		}),
		power("restart", "Restart", "The guest is asked to shut down, and forced off when the pool's stop-limit has passed; then it is started again.", reasoned, whileOn, func(id, why, rid string) proto.Message {
			return &pb.RestartVMRequest{Vm: id, Why: why, RequestId: rid}
		}),
		power("kill", "KILL", "As pulling the plug: what the guest has not written to its disks is lost.", named, whileOn, func(id, why, rid string) proto.Message {
			return &pb.KillVMRequest{Vm: id, Why: why, RequestId: rid}
		}),
		{
			name: "clear", title: "Clear", kind: vmKind, weigh: always(light),
			refuse: func(m *Model, id string) string {
				if m.shown().VM(id).GetStatus() != isFailed {
					return "it has not failed: there is nothing to clear"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, _ string) proto.Message {
				return &pb.ClearVMRequest{Vm: id, Why: in.why}
			},
			holds: func(v *feed.View, id string) bool { return v.VM(id) != nil && !v.VM(id).GetHome().GetFailed() },
			about: func(m *Model, ids []string) lines {
				out := m.sentences("Its failures are forgotten, and it is started again if it is wanted running.")
				for _, f := range m.shown().VM(ids[0]).GetHome().GetFailures() {
					out.toned(clockTime(m.now, f.GetAt()), word(f.GetCause())+" on "+f.GetServer()+": "+f.GetDetail(), bad)
				}
				return out
			},
		},
		{
			name: "remove", title: "REMOVE", kind: vmKind, weigh: always(named),
			refuse: func(m *Model, id string) string {
				if s := m.shown().VM(id).GetStatus(); s != isStopped {
					return "it is " + word(s) + ": stop it first"
				}
				return ""
			},
			request: func(_ *Model, id string, _ inputs, _ string) proto.Message { return &pb.RemoveVMRequest{Vm: id} },
			holds:   func(v *feed.View, id string) bool { return v.VM(id) == nil },
			about: func(m *Model, _ []string) lines {
				return m.sentences("The pool forgets it: definition, policy and history. Its disks are left alone.")
			},
		},
	}
}

// power is one of the actions that start an operation for a VM.
func power(name, heading, text string, w weight, refuse func(*pb.VMView) string, request func(id, why, rid string) proto.Message) *action {
	return &action{
		name: name, title: heading, kind: vmKind, weigh: always(w),
		refuse: func(m *Model, id string) string {
			v := m.shown().VM(id)
			if v == nil {
				return "it is not there any more"
			}
			return refuse(v)
		},
		request: func(_ *Model, id string, in inputs, rid string) proto.Message { return request(id, in.why, rid) },
		about: func(m *Model, ids []string) lines {
			out := m.sentences(text)
			for i, id := range ids {
				if i == 8 {
					out.add(dim, fmt.Sprintf("... and %d more", len(ids)-i))
					break
				}
				v := m.shown().VM(id)
				out.toned(id, joinParts(word(v.GetStatus()), onServer(v), size(v.GetVm().GetMemoryBytes())), plain)
			}
			return out
		},
	}
}

func onServer(v *pb.VMView) string {
	if s := vmServer(v); s != "" {
		return "on " + s
	}
	return ""
}

func whileOn(v *pb.VMView) string {
	switch v.GetStatus() {
	case isStopped:
		return "it is stopped"
	case pb.VMStatus_VM_STATUS_STOPPING:
		return "it is stopping already"
	}
	return ""
}

func serverActions() []*action {
	lock := func(on bool) *action {
		about := "VMs there run on and may leave. None arrives by start, migration or HA."
		if !on {
			about = "VMs may arrive there again."
		}
		return &action{
			name: "inbound-lock " + onOff(on), title: "Inbound lock " + onOff(on) + " for", key: "L", kind: serverKind, weigh: always(light),
			refuse: func(m *Model, id string) string {
				if m.shown().Server(id).GetServer().GetInboundLock() == on {
					return "its inbound lock is " + onOff(on) + " already"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, _ string) proto.Message {
				return &pb.SetInboundLockRequest{Server: id, On: on, Why: in.why}
			},
			holds: func(v *feed.View, id string) bool {
				return v.Server(id) != nil && v.Server(id).GetServer().GetInboundLock() == on
			},
			about: func(m *Model, ids []string) lines {
				out := m.sentences(about)
				if mark := m.shown().Server(ids[0]).GetServer().GetInboundLockMark(); !on && mark.GetBy() != "" {
					out.fact("set", byWhom(m.now, mark)[1:])
				}
				return out
			},
		}
	}
	return []*action{
		lock(true), lock(false),
		{
			name: "confirm-fenced", title: "CONFIRM FENCED", kind: serverKind, weigh: always(named),
			refuse: func(m *Model, id string) string {
				s := m.shown().Server(id)
				switch {
				case !serverIs(s, pb.ServerState_SERVER_STATE_LOST):
					return "it is not lost: its session lives"
				case serverIs(s, pb.ServerState_SERVER_STATE_FENCED):
					return "it is fenced already"
				}
				return ""
			},
			request: func(_ *Model, id string, in inputs, _ string) proto.Message {
				return &pb.ConfirmFencedRequest{Server: id, TypedName: in.typed, Why: in.why}
			},
			holds:   func(v *feed.View, id string) bool { return serverIs(v.Server(id), pb.ServerState_SERVER_STATE_FENCED) },
			about:   confirmFencedText,
			command: func(ids []string, _ inputs) string { return "holdfast confirm-fenced " + ids[0] },
		},
	}
}

func confirmFencedText(m *Model, ids []string) lines {
	var out lines
	out.add(alarm, " If "+ids[0]+" still runs, its VMs will run TWICE and their disks will be CORRUPTED. ")
	out.gap()
	out.add(plain, "Confirm only what you have seen yourself: the server is switched off, or its power is cut.")
	out.add(plain, "That nobody can reach it proves nothing: it may be running behind a broken network.")
	out.gap()
	s := m.shown().Server(ids[0])
	out.toned("lost", s.GetReason(), bad)
	out.fact("then", fmt.Sprintf("%s of it may be started elsewhere", plural(int(s.GetVms()), "VM")))
	return out
}

// thePool is the target of actions on the pool as a whole.
const thePool = "the pool"

func poolActions() []*action {
	ha := func(on bool) *action {
		w, heading := named, "Pool HA OFF:"
		if on {
			w, heading = light, "Pool HA on:"
		}
		return &action{
			name: "ha " + onOff(on), title: heading, key: "H", weigh: always(w),
			refuse: func(m *Model, _ string) string {
				if m.shown().Config().GetHa() == on {
					return "HA of the pool is " + onOff(on) + " already"
				}
				return ""
			},
			request: func(_ *Model, _ string, in inputs, _ string) proto.Message {
				return &pb.SetPoolHARequest{On: on, Why: in.why}
			},
			holds: func(v *feed.View, _ string) bool { return v.Config().GetHa() == on },
			about: func(m *Model, _ []string) lines {
				if on {
					return m.sentences(fmt.Sprintf("VMs with HA on will be started elsewhere when their server fails. %s in the pool.", plural(len(m.shown().VMs), "VM")))
				}
				out := m.sentences(fmt.Sprintf("NOTHING is restarted elsewhere any more: %s lose their protection.", plural(m.protected(), "VM")))
				out.add(dim, "VMs run on as they are.")
				return out
			},
			command: func(_ []string, in inputs) string { return commandWhy("holdfast ha "+onOff(on), in) },
		}
	}
	freeze := func(on bool) *action {
		name, text, w := "unfreeze", "HA acts again: what was lost meanwhile is fenced and restarted at once.", light
		if on {
			name, text, w = "freeze", "While frozen nothing is fenced, moved or restarted, whatever fails.", named
		}
		return &action{
			name: name, title: name, weigh: always(w),
			refuse: func(m *Model, _ string) string {
				if m.shown().Config().GetFrozen() == on {
					return "the pool is " + map[bool]string{true: "frozen already", false: "not frozen"}[on]
				}
				return ""
			},
			request: func(_ *Model, _ string, in inputs, _ string) proto.Message {
				return &pb.SetFreezeRequest{Frozen: on, Why: in.why}
			},
			holds:   func(v *feed.View, _ string) bool { return v.Config().GetFrozen() == on },
			about:   func(m *Model, _ []string) lines { return m.sentences(text) },
			command: func(_ []string, in inputs) string { return commandWhy("holdfast "+name, in) },
		}
	}
	return []*action{ha(true), ha(false), freeze(true), freeze(false)}
}

func commandWhy(s string, in inputs) string {
	if in.why != "" {
		s += fmt.Sprintf(" --why %q", in.why)
	}
	return s
}

// protected counts VMs that HA would restart.
func (m *Model) protected() int {
	n := 0
	for _, v := range m.shown().VMs {
		if v.GetProtected() {
			n++
		}
	}
	return n
}

// sentences are lines of plain text.
func (m *Model) sentences(all ...string) lines {
	var out lines
	for _, s := range all {
		if s != "" {
			out.add(plain, s)
		}
	}
	return out
}

func poolHALine(m *Model) string {
	c := m.shown().Config()
	switch {
	case !c.GetHa():
		return "HA of the pool is OFF, so that this protects nothing until it is switched on as well."
	case c.GetFrozen():
		return "HA is FROZEN, so that this protects nothing until unfreeze."
	}
	return ""
}
