package sim

import (
	"context"
	"fmt"
	"strings"

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
var handlers = map[string]func(*simAgent, context.Context, scenario.Statement) (pool.OperationID, error){
	"start": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().StartVM(ctx, &pb.StartVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"stop": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().StopVM(ctx, &pb.StopVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"kill": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().KillVM(ctx, &pb.KillVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"restart": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().RestartVM(ctx, &pb.RestartVMRequest{Vm: st.VM})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"migrate": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().MigrateVM(ctx, &pb.MigrateVMRequest{Vm: st.VM, Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"relocate": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().RelocateVM(ctx, &pb.RelocateVMRequest{Vm: st.VM, Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"operation cancel": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().CancelOperation(ctx, &pb.CancelOperationRequest{Operation: st.Operation})
		return pool.OperationID(st.Operation), err
	},
	"clear": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().ClearVM(ctx, &pb.ClearVMRequest{Vm: st.VM})
		return "", err
	},
	"remove": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().RemoveVM(ctx, &pb.RemoveVMRequest{Vm: st.VM})
		return "", err
	},
	"add":      (*simAgent).addVM,
	"set":      (*simAgent).setVM,
	"set pool": (*simAgent).setPool,
	"ha on": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		return "", a.setHA(ctx, st.VM, true)
	},
	"ha off": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		return "", a.setHA(ctx, st.VM, false)
	},
	"freeze": func(a *simAgent, ctx context.Context, _ scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: true})
		return "", err
	},
	"unfreeze": func(a *simAgent, ctx context.Context, _ scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: false})
		return "", err
	},
	"inbound-lock on": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: st.Server, On: true})
		return "", err
	},
	"inbound-lock off": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: st.Server, On: false})
		return "", err
	},
	"confirm-fenced": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().ConfirmFenced(ctx, &pb.ConfirmFencedRequest{Server: st.Server, TypedName: st.Server, Why: "looked at it"})
		return "", err
	},
	"maintenance enter": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		r, err := a.API().EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: st.Server})
		return pool.OperationID(r.GetOperation().GetId()), err
	},
	"maintenance exit": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().ExitMaintenance(ctx, &pb.ExitMaintenanceRequest{Server: st.Server})
		return "", err
	},
	"remove-server": func(a *simAgent, ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
		_, err := a.API().RemoveServer(ctx, &pb.RemoveServerRequest{Server: st.Server})
		return "", err
	},
}

// Do carries out an operator command through the API's handlers.
func (a *simAgent) Do(ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
	h, ok := handlers[st.Verb]
	if !ok {
		return "", fmt.Errorf("this version has no %s: %w", st.Verb, pool.ErrRefused)
	}
	return h(a, rpc.WithIdentity(ctx, operator), st)
}

func (a *simAgent) setHA(ctx context.Context, vm string, on bool) error {
	if vm == "" {
		_, err := a.API().SetPoolHA(ctx, &pb.SetPoolHARequest{On: on})
		return err
	}
	_, err := a.API().SetVMHA(ctx, &pb.SetVMHARequest{Vms: []string{vm}, On: on})
	return err
}

// setVM splits HA, which has a command of its own, from the other settings.
func (a *simAgent) setVM(ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
	set := settings(st.Settings)
	if ha, ok := set["ha"]; ok {
		delete(set, "ha")
		if err := a.setHA(ctx, st.VM, ha == "on"); err != nil || len(set) == 0 {
			return "", err
		}
	}
	_, err := a.API().UpdateVM(ctx, &pb.UpdateVMRequest{Vm: st.VM, Set: set})
	return "", err
}

func (a *simAgent) setPool(ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
	set := settings(st.Settings)
	if ha, ok := set["ha"]; ok {
		delete(set, "ha")
		if err := a.setHA(ctx, "", ha == "on"); err != nil || len(set) == 0 {
			return "", err
		}
	}
	_, err := a.API().UpdatePool(ctx, &pb.UpdatePoolRequest{Set: set})
	return "", err
}

// addVM registers a VM from a definition, says where it was last if the scenario names a server, and starts it.
func (a *simAgent) addVM(ctx context.Context, st scenario.Statement) (pool.OperationID, error) {
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
	vm := st.New.VM
	if _, err := a.API().RegisterVM(ctx, &pb.RegisterVMRequest{Xml: DomainXML(vm), Set: set}); err != nil {
		return "", err
	}
	a.crew.p.complete(st.New)
	if !st.New.Running {
		return "", nil
	}
	r, err := a.API().StartVM(ctx, &pb.StartVMRequest{Vm: st.VM})
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
