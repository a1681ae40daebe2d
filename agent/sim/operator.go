package sim

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/api"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// operator is who gives the commands of a scenario.
var operator = pki.Identity{Name: "operator", Role: pki.RoleAdmin}

// handlers carry out operator commands through the API.
var handlers = map[string]func(context.Context, *api.Server, scenario.Statement) (pool.OperationID, error){
	"start": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.StartVM(ctx, &pb.StartVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"stop": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.StopVM(ctx, &pb.StopVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"kill": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.KillVM(ctx, &pb.KillVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"restart": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.RestartVM(ctx, &pb.RestartVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"migrate": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.MigrateVM(ctx, &pb.MigrateVMRequest{Vm: st.VM, Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"relocate": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.RelocateVM(ctx, &pb.RelocateVMRequest{Vm: st.VM, Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"operation cancel": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.CancelOperation(ctx, &pb.CancelOperationRequest{Operation: st.Operation})
		return pool.OperationID(st.Operation), err
	},
	"clear": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.ClearVM(ctx, &pb.ClearVMRequest{Vm: st.VM})
		return "", err
	},
	"remove": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.RemoveVM(ctx, &pb.RemoveVMRequest{Vm: st.VM})
		return "", err
	},
	"add":      addVM,
	"set":      setVM,
	"set pool": setPool,
	"ha on": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		return "", setHA(ctx, a, st.VM, true)
	},
	"ha off": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		return "", setHA(ctx, a, st.VM, false)
	},
	"freeze": func(ctx context.Context, a *api.Server, _ scenario.Statement) (pool.OperationID, error) {
		_, err := a.SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: true})
		return "", err
	},
	"unfreeze": func(ctx context.Context, a *api.Server, _ scenario.Statement) (pool.OperationID, error) {
		_, err := a.SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: false})
		return "", err
	},
	"inbound-lock on": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: st.Server, On: true})
		return "", err
	},
	"inbound-lock off": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: st.Server, On: false})
		return "", err
	},
	"confirm-fenced": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.ConfirmFenced(ctx, &pb.ConfirmFencedRequest{Server: st.Server, TypedName: st.Server, Why: "looked at it"})
		return "", err
	},
	"maintenance enter": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"maintenance exit": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.ExitMaintenance(ctx, &pb.ExitMaintenanceRequest{Server: st.Server})
		return "", err
	},
	"remove-server": func(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.RemoveServer(ctx, &pb.RemoveServerRequest{Server: st.Server})
		return "", err
	},
}

// Commanded reports whether Command knows an operator command.
func Commanded(verb string) bool { return handlers[verb] != nil }

// Command has an agent's API carry out an operator command, and returns the operation that it made, if one.
func Command(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
	h, ok := handlers[st.Verb]
	if !ok {
		return "", fmt.Errorf("this version has no %s: %w", st.Verb, pool.ErrRefused)
	}
	return h(rpc.WithIdentity(ctx, operator), a, st)
}

// Do carries out an operator command through the API's handlers.
func (a *simAgent) Do(ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
	if st.Verb == "add" {
		return a.addVM(rpc.WithIdentity(ctx, operator), st)
	}
	return Command(ctx, a.API(), st)
}

func setHA(ctx context.Context, a *api.Server, vm string, on bool) error {
	if vm == "" {
		_, err := a.SetPoolHA(ctx, &pb.SetPoolHARequest{On: on})
		return err
	}
	_, err := a.SetVMHA(ctx, &pb.SetVMHARequest{Vms: []string{vm}, On: on})
	return err
}

// setVM splits HA, which has a command of its own, from the other settings.
func setVM(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
	set := settings(st.Settings)
	if ha, ok := set["ha"]; ok {
		delete(set, "ha")
		if err := setHA(ctx, a, st.VM, ha == "on"); err != nil || len(set) == 0 {
			return "", err
		}
	}
	_, err := a.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: st.VM, Set: set})
	return "", err
}

func setPool(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
	set := settings(st.Settings)
	if ha, ok := set["ha"]; ok {
		delete(set, "ha")
		if err := setHA(ctx, a, "", ha == "on"); err != nil || len(set) == 0 {
			return "", err
		}
	}
	_, err := a.UpdatePool(ctx, &pb.UpdatePoolRequest{Set: set})
	return "", err
}

// addVM registers a VM as addVM of the API's handlers does, completes it, and starts it.
func (a *simAgent) addVM(ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
	if err := registerVM(ctx, a.API(), st); err != nil {
		return "", err
	}
	a.crew.p.complete(st.New)
	return startNew(ctx, a.API(), st)
}

// addVM registers a VM from a definition and starts it.
func addVM(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
	if err := registerVM(ctx, a, st); err != nil {
		return "", err
	}
	return startNew(ctx, a, st)
}

func registerVM(ctx context.Context, a *api.Server, st scenario.Statement) error {
	set := settings(st.Settings)
	for k := range set {
		if !registered(k) {
			delete(set, k)
		}
	}
	set["ha"] = "off"
	if st.New.HA {
		set["ha"] = "on"
	}
	_, err := a.RegisterVM(ctx, &pb.RegisterVMRequest{Xml: DomainXML(st.New.VM), Set: set})
	return err
}

// startNew starts a VM that was just registered, unless it is to be stopped.
func startNew(ctx context.Context, a *api.Server, st scenario.Statement) (pool.OperationID, error) {
	if !st.New.Running {
		return "", nil
	}
	r, err := a.StartVM(ctx, &pb.StartVMRequest{Vm: st.VM})
	return pool.OperationID(r.GetOperation().GetId()), err
}

// complete writes what a definition of a simulated VM cannot say: where it was last, and that it cannot move.
func (p *Pool) complete(v *scenario.VM) {
	snap := p.truth.snapshot()
	var ops []kv.Op
	if c, ok := snap.Claims.Get(v.ID); ok && v.On != "" && c.Phase == pool.PhaseUnassigned {
		c.LastServer = pool.ServerID(v.On)
		ops = append(ops, p.Keys.PutClaim(c))
	}
	if vm, ok := snap.VMs.Get(v.ID); ok && !v.Movable {
		vm.Movable = false
		ops = append(ops, p.Keys.PutVM(vm))
	}
	if len(ops) > 0 {
		p.Etcd.Seed(ops)
	}
}

// registered reports whether a key of a VM is a setting of its registration.
func registered(key string) bool {
	for _, s := range pool.VMSettings() {
		if s[0] == key {
			return true
		}
	}
	return false
}

func settings(in []scenario.Setting) map[string]string {
	out := make(map[string]string, len(in))
	for _, s := range in {
		out[s.Key] = strings.TrimSpace(s.Value)
	}
	return out
}
