package measure

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// fenceable gives every server a power switch. What is measured is switched on again by the measurement, not by the
// pool.
func (f Failover) fenceable(ctx context.Context, l *lab.Lab, p *holdfast.Pool) error {
	for _, s := range l.Servers() {
		_, err := p.Servers.UpdateServer(ctx, &pb.UpdateServerRequest{Server: s.Name(), SetFence: true,
			Fence: []*pb.FenceDevice{{Agent: "fence_lab", Params: map[string]string{"plug": s.Name()}}}})
		if err != nil {
			return fmt.Errorf("power switch of %s: %w", s.Name(), err)
		}
	}
	_, err := p.Pools.UpdatePool(ctx, &pb.UpdatePoolRequest{Set: map[string]string{"power-on": "off"}})
	return err
}

// programs puts the lab's fence program among those that are installed: a folder above the real one, on these servers
// only. A server loses it with its power.
func programs(ctx context.Context, l *lab.Lab) error {
	dir := filepath.Dir(l.FenceAgent())
	for _, s := range l.Servers() {
		script := "test -e /usr/sbin/fence_lab || mount -t overlay programs -o lowerdir=" + dir + ":/usr/sbin /usr/sbin"
		if _, err := s.Exec(ctx, "sh", "-c", script); err != nil {
			return fmt.Errorf("fence program on %s: %w", s.Name(), err)
		}
	}
	return nil
}

// offTheLeader moves the VM off the server that leads the pool: a leader's successor waits for its lease first, which is
// another figure. It returns where the VM is.
func (f Failover) offTheLeader(ctx context.Context, l *lab.Lab, p *holdfast.Pool, on string) (string, error) {
	if err := programs(ctx, l); err != nil {
		return "", err
	}
	leader, err := p.Leader(ctx)
	if err != nil || leader != on {
		return on, err
	}
	target := ""
	for _, s := range l.Servers() {
		if s.Name() != leader {
			target = s.Name()
		}
	}
	if err := relocate(ctx, p, target); err != nil {
		return "", fmt.Errorf("move %s off the leader: %w", vm, err)
	}
	_, err = p.UntilVM(ctx, vm, "runs on "+target, func(v *pb.VMView) bool {
		return v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING && v.GetClaim().GetServer() == target && v.GetClaim().GetArmed()
	})
	return target, err
}

// relocate has the VM moved as soon as the target can take it: a server that has just booted looks at itself first.
func relocate(ctx context.Context, p *holdfast.Pool, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for {
		_, err := p.VMs.RelocateVM(ctx, &pb.RelocateVMRequest{Vm: vm, Server: target})
		if err == nil || !strings.Contains(err.Error(), "cannot take") {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
