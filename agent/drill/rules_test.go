package drill_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const canary = "canary-1"

// stage is a pool whose canary runs on srv-1 beside nothing.
func stage(change func(*pool.Snapshot)) *pool.Snapshot {
	s := &pool.Snapshot{Revision: 9, Config: pool.DefaultConfig("test", "life")}
	s.Config.HA = true
	s.Leader.Server = "srv-1"
	for i, id := range []pool.ServerID{"srv-1", "srv-2"} {
		s.Servers = s.Servers.With(id, pool.Server{ID: id})
		s.Members = s.Members.With(id, pool.Member{Server: id, Session: pool.Session(20 + i)})
	}
	vm := pool.DefaultVM(canary)
	vm.Canary, vm.HA = true, true
	vm.Needs = []pool.Need{{Kind: pool.NeedFile, Name: "/srv/" + pool.CanaryFile(canary)}}
	s.VMs = s.VMs.With(canary, vm)
	s.Claims = s.Claims.With(canary, pool.Claim{VM: canary, Phase: pool.PhaseHeld, Server: "srv-1", Session: 20, Armed: true})
	if change != nil {
		change(s)
	}
	return s
}

// beside puts another VM on a server.
func beside(server pool.ServerID, ha bool) func(*pool.Snapshot) {
	return func(s *pool.Snapshot) {
		vm := pool.DefaultVM("web")
		vm.HA = ha
		s.VMs = s.VMs.With("web", vm)
		s.Claims = s.Claims.With("web", pool.Claim{VM: "web", Phase: pool.PhaseHeld, Server: server, Session: 20})
	}
}

func TestOnlyTheCanaryCanSufferFromADrill(t *testing.T) {
	powered := func(s *pool.Snapshot) {
		s.Servers = s.Servers.With("srv-1", pool.Server{ID: "srv-1", Fence: []pool.FenceDevice{{Agent: "fence_ipmilan"}}})
	}
	isolate := drill.Hit{VM: canary, Level: pool.DrillIsolation, Limit: time.Minute}
	for _, c := range []struct {
		name   string
		change func(*pool.Snapshot)
		hit    drill.Hit
		want   string
	}{
		{"its QEMU, alone", nil, drill.Hit{VM: canary, Level: pool.DrillQEMU}, ""},
		{"its QEMU, beside others", beside("srv-1", true), drill.Hit{VM: canary, Level: pool.DrillQEMU}, ""},
		{"another VM's QEMU", beside("srv-1", true), drill.Hit{VM: "web", Level: pool.DrillQEMU}, "NO_CANARY"},
		{"the agent, alone", nil, drill.Hit{VM: canary, Level: pool.DrillAgent}, ""},
		{"the agent, beside a VM without HA", beside("srv-1", false), drill.Hit{VM: canary, Level: pool.DrillAgent}, ""},
		{"the agent, beside a VM with HA", beside("srv-1", true), drill.Hit{VM: canary, Level: pool.DrillAgent}, "OTHER_VMS"},
		{"the agent, beside a VM with HA, accepted", beside("srv-1", true), drill.Hit{VM: canary, Level: pool.DrillAgent, BesideOthers: true}, ""},
		{"isolation, alone", nil, isolate, ""},
		{"isolation, others elsewhere", beside("srv-2", true), isolate, ""},
		{"isolation, beside a VM without HA", beside("srv-1", false), isolate, "OTHER_VMS"},
		{"isolation, beside a VM, whatever was accepted", beside("srv-1", true), drill.Hit{VM: canary, Level: pool.DrillIsolation, Limit: time.Minute, BesideOthers: true, CutPower: true}, "OTHER_VMS"},
		{"isolation of a server with power switches", powered, isolate, "POWER_FENCED"},
		{"the same, accepted", powered, drill.Hit{VM: canary, Level: pool.DrillIsolation, Limit: time.Minute, CutPower: true}, ""},
		{"a VM that arrives", func(s *pool.Snapshot) {
			beside("srv-2", true)(s)
			c, _ := s.Claims.Get("web")
			c.Phase, c.Incoming = pool.PhaseMigrating, &pool.Incoming{Server: "srv-1"}
			s.Claims = s.Claims.With("web", c)
		}, isolate, "OTHER_VMS"},
		{"an isolation's end, wherever the canary is", func(s *pool.Snapshot) {
			s.Claims = s.Claims.With(canary, pool.Claim{VM: canary, Phase: pool.PhaseHeld, Server: "srv-2", Session: 21})
		}, drill.Hit{VM: canary, Level: pool.DrillIsolation}, ""},
		{"a canary that runs elsewhere", func(s *pool.Snapshot) {
			s.Claims = s.Claims.With(canary, pool.Claim{VM: canary, Phase: pool.PhaseHeld, Server: "srv-2", Session: 21, Armed: true})
		}, isolate, "NOT_RUNNING"},
		{"a canary of an older session", func(s *pool.Snapshot) {
			s.Claims = s.Claims.With(canary, pool.Claim{VM: canary, Phase: pool.PhaseHeld, Server: "srv-1", Session: 11, Armed: true})
		}, isolate, "NOT_RUNNING"},
		{"a canary that no guard holds", func(s *pool.Snapshot) {
			s.Claims = s.Claims.With(canary, pool.Claim{VM: canary, Phase: pool.PhaseHeld, Server: "srv-1", Session: 20})
		}, isolate, "NOT_PROTECTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := drill.Check(stage(c.change), "srv-1", 20, c.hit)
			var r *pool.Refusal
			code := ""
			if errors.As(err, &r) {
				code = r.Code
			}
			if code != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestADrillDeletesNoDiskButOneThatADrillMade(t *testing.T) {
	dir := t.TempDir()
	f := drill.Files{Folders: []string{dir}, Machine: drill.Machine{Type: "kvm"}}
	disk, xml, err := f.Make("", canary)
	if err != nil || !strings.Contains(xml, disk) {
		t.Fatalf("%s, %s, %v", disk, xml, err)
	}
	if _, _, err := f.Make("", canary); err == nil {
		t.Error("a disk that was there is used again")
	}
	other := filepath.Join(dir, "web-01.raw")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Remove(other); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("deleting %s: %v", other, err)
	}
	for _, want := range []bool{true, false} {
		if deleted, err := f.Remove(disk); err != nil || deleted != want {
			t.Errorf("deleted %v, %v; want %v", deleted, err, want)
		}
	}
	vm := pool.DefaultVM("web")
	vm.Canary = true
	vm.Needs = []pool.Need{{Kind: pool.NeedFile, Name: other}}
	if path, err := pool.CanaryDisk(vm); err == nil {
		t.Errorf("%s counts as a canary's disk", path)
	}
}

func TestADefinitionNamesTheMachineOrLeavesItToLibvirt(t *testing.T) {
	for want, m := range map[string]drill.Machine{
		"<type arch='x86_64' machine='q35'>hvm</type>": {Type: "kvm", Arch: "x86_64", Machine: "q35"},
		"<type>hvm</type>": {Type: "kvm"},
	} {
		xml, err := drill.Definition(canary, "/srv/disk", m)
		if err != nil || !strings.Contains(xml, want) || !strings.Contains(xml, "<domain type='kvm'>") {
			t.Errorf("%v: no %s in %s", err, want, xml)
		}
	}
}

func TestADefinitionTakesNoFolderThatWouldBreakIt(t *testing.T) {
	if _, err := drill.Definition(canary, "/srv/<x>/disk", drill.Machine{Type: "kvm"}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("error %v", err)
	}
}
