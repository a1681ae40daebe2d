package api

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// yard is a place for drills without a disk.
type yard struct {
	disks map[string]bool
	hits  []drill.Hit
}

func (y *yard) Make(_ context.Context, dir string, vm pool.VMID) (disk, xml string, err error) {
	disk = dir + "/" + pool.CanaryFile(vm)
	y.disks[disk] = true
	return disk, string(vm), nil
}

func (y *yard) Remove(_ context.Context, disk string) (bool, error) {
	had := y.disks[disk]
	delete(y.disks, disk)
	return had, nil
}

func (y *yard) Crash(context.Context, pool.VMID, guard.Process) error { return nil }
func (y *yard) EndAgent()                                             {}

func (y *yard) TouchCanary(_ context.Context, server pool.ServerID, h drill.Hit) (drill.Facts, error) {
	y.hits = append(y.hits, h)
	return drill.Facts{Server: server, PID: 7}, nil
}

// canaryDefinitions reads the yard's definitions.
type canaryDefinitions struct{ fakeDefinitions }

func (d canaryDefinitions) Parse(xml string) (Definition, error) {
	def, err := d.fakeDefinitions.Parse(xml)
	def.Needs = []pool.Need{{Kind: pool.NeedFile, Name: "/srv/" + pool.CanaryFile(pool.VMID(def.Name))}, {Kind: pool.NeedMachine, Name: "q35"}}
	return def, err
}

// drills makes the bench's agent take part in drills.
func (b *bench) drills() *yard {
	y := &yard{disks: map[string]bool{}}
	b.cfg.Place, b.cfg.Canaries, b.cfg.Definitions = y, y, canaryDefinitions{}
	b.pool.change(func(s *pool.Snapshot) {
		s.Config.HA = true
		s.Leader.Server = "srv-1"
	})
	return y
}

// canaryOn makes a canary that a server holds.
func (b *bench) canaryOn(server pool.ServerID) string {
	b.drills()
	r, err := b.CreateCanary(context.Background(), &pb.CreateCanaryRequest{Directory: "/srv"})
	if err != nil {
		panic(fmt.Sprintf("make a canary: %v", err))
	}
	id := r.GetVm().GetVm().GetId()
	b.hold(pool.VMID(id), server)
	return id
}

func TestACanaryIsMarkedProtectedAndWantedRunningAndThereIsOnlyOne(t *testing.T) {
	b := newBench(t)
	y := b.drills()
	r, err := b.CreateCanary(as(t), &pb.CreateCanaryRequest{Directory: "/srv", Server: "srv-2", RequestId: "one"})
	if err != nil {
		t.Fatal(err)
	}
	vm := r.GetVm().GetVm()
	if !vm.GetCanary() || !vm.GetHa() || vm.GetDesired() != pb.DesiredState_DESIRED_STATE_RUNNING || len(vm.GetPrefer()) != 1 || !y.disks[r.GetDisk()] {
		t.Errorf("canary %v, disk %s", vm, r.GetDisk())
	}
	again, err := b.CreateCanary(as(t), &pb.CreateCanaryRequest{Directory: "/srv", RequestId: "one"})
	if err != nil || again.GetVm().GetVm().GetId() != vm.GetId() || again.GetDisk() != r.GetDisk() {
		t.Errorf("the same request again: %v, %v", again, err)
	}
	_, err = b.CreateCanary(as(t), &pb.CreateCanaryRequest{Directory: "/srv", RequestId: "two"})
	if code := refusal(err); code != "DRILL_RUNS" {
		t.Errorf("a second one: %v, want DRILL_RUNS", err)
	}
	if len(y.disks) != 1 {
		t.Errorf("disks %v, want the first one's", y.disks)
	}
}

func refusal(err error) string {
	var r *pool.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestNoDrillWhileHAIsOffOrFrozenOrNothingCouldStartElsewhere(t *testing.T) {
	for code, change := range map[string]func(*pool.Snapshot){
		"NOT_PROTECTED":    func(s *pool.Snapshot) { s.Config.Frozen = true },
		"NO_SECOND_SERVER": func(s *pool.Snapshot) { s.Members = s.Members.Without("srv-1").Without("srv-2") },
	} {
		b := newBench(t)
		y := b.drills()
		b.pool.change(change)
		if _, err := b.CreateCanary(as(t), &pb.CreateCanaryRequest{Directory: "/srv"}); refusal(err) != code {
			t.Errorf("error %v, want %s", err, code)
		}
		if len(y.disks) != 0 {
			t.Errorf("%s: a disk is left: %v", code, y.disks)
		}
	}
}

func TestOnlyACanaryIsHitOrRemoved(t *testing.T) {
	b := newBench(t)
	y := b.drills()
	b.hold("web", "srv-1")
	before := b.pool.Snapshot()
	_, err := b.HitCanary(as(t), &pb.HitCanaryRequest{Canary: "web", Server: "srv-1", Level: pb.DrillLevel_DRILL_LEVEL_QEMU})
	b.wantRefusal(t, before, err, "NO_CANARY")
	_, err = b.RemoveCanary(as(t), &pb.RemoveCanaryRequest{Canary: "web"})
	b.wantRefusal(t, before, err, "NO_CANARY")
	if len(y.hits) != 0 {
		t.Errorf("hit: %v", y.hits)
	}
}

func TestRemovingACanaryDeletesItsDiskAndForgetsIt(t *testing.T) {
	b := newBench(t)
	y := b.drills()
	r, err := b.CreateCanary(as(t), &pb.CreateCanaryRequest{Directory: "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	id := r.GetVm().GetVm().GetId()
	gone, err := b.RemoveCanary(as(t), &pb.RemoveCanaryRequest{Canary: id})
	if err != nil || !gone.GetDiskDeleted() || len(y.disks) != 0 {
		t.Fatalf("%v, %v; disks %v", gone, err, y.disks)
	}
	if s := b.pool.Snapshot(); s.VMs.Has(pool.VMID(id)) || s.Claims.Has(pool.VMID(id)) {
		t.Error("it is still known")
	}
}
