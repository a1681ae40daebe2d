package sim

import (
	"testing"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestWhatTheScenarioDoesNotPlaceIsPlacedAsRulesAndRoomAllow(t *testing.T) {
	f, err := scenario.Parse("homes", `
servers s1 s2 s3
server small memory=4G
server resting maintenance=on
server closed inbound-lock=on
server off up=no
vm there on=s2
vm a require=s3
vm b prefer=off,s2
vm c apart=g
vm d apart=g
vm e apart=g
vm f together=h on=s3
vm g together=h
vm big memory=60G
vm nowhere require=off
vm cold state=stopped
`)
	if err != nil {
		t.Fatal(err)
	}
	got := homesOf(f)
	for vm, want := range map[pool.VMID]string{"there": "s2", "a": "s3", "b": "s2", "f": "s3", "g": "s3", "cold": ""} {
		if got[vm] != want {
			t.Errorf("%s is on %q, want %q", vm, got[vm], want)
		}
	}
	if got["c"] == got["d"] || got["d"] == got["e"] || got["c"] == got["e"] {
		t.Errorf("c, d and e are to be apart: %s, %s, %s", got["c"], got["d"], got["e"])
	}
	for vm, on := range got {
		if on == "off" || on == "resting" && vm != "nowhere" || on == "closed" && vm != "nowhere" || vm == "big" && on == "small" {
			t.Errorf("%s is on %s", vm, on)
		}
	}
}
