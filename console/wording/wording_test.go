package wording

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestWhatTheAPITellsIsSaidInWords(t *testing.T) {
	now := time.Date(2026, 11, 22, 13, 5, 20, 0, time.UTC)
	ago := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	for got, want := range map[string]string{
		Enum(pb.VMStatus_VM_STATUS_RUNNING):               "running",
		Enum(pb.VMStatus_VM_STATUS_UNSPECIFIED):           "-",
		Enum(pb.VMStatus(99)):                             "state 99",
		Enum(pb.CapacityVerdict_CAPACITY_VERDICT_AT_RISK): "at risk",
		Size(0):                           "0",
		Size(8 << 30):                     "8G",
		Size(3 << 29):                     "1.5G",
		Size(-512 << 20):                  "-512M",
		Span(-time.Second):                "0s",
		Span(99 * time.Second):            "99s",
		Span(5 * time.Minute):             "5m",
		Span(5 * time.Hour):               "5h",
		Span(72 * time.Hour):              "3d",
		Age(now, nil):                     "",
		Age(now, ago(8*time.Second)):      "8s",
		ClockTime(now, nil):               "",
		ClockTime(now, ago(time.Hour)):    "12:05:20",
		ClockTime(now, ago(48*time.Hour)): "Nov 20 13:05",
		Dash(""):                          "-",
		Plural(1, "VM"):                   "1 VM",
		Plural(2, "VM"):                   "2 VMs",
		ByWhom(now, "", nil):              "",
		ByWhom(now, "kim", &pb.Mark{At: ago(2 * time.Hour), Why: "SAN work"}):        " by kim, 2h ago: SAN work",
		HA(&pb.VMView{Vm: &pb.VM{Ha: true}}, &pb.PoolConfig{}):                       "pool off",
		HA(&pb.VMView{Vm: &pb.VM{Ha: true}}, &pb.PoolConfig{Ha: true, Frozen: true}): "frozen",
		HA(&pb.VMView{Vm: &pb.VM{Ha: true}, Protected: true}, nil):                   "on",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	lost := &pb.VMView{Status: pb.VMStatus_VM_STATUS_LOST, Claim: &pb.Claim{LastServer: "hv-06"}}
	if got := VMServer(lost); got != "hv-06" {
		t.Errorf("a lost VM is on %q", got)
	}
}
