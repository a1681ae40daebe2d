package sim

import (
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/app"
)

const snapshotThenPowerCut = "servers s1 s2 s3\nleader s1\nvm web on=s2\nat 5s snapshot web\nat 10s power off s2\nby 30s expect web running on s1,s3\n"

func TestAVMWhoseDisksMovedStartsElsewhereFromWhatItWroteLast(t *testing.T) {
	if r := Run(parse(t, snapshotThenPowerCut), Options{Seed: 1}); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestWithoutALookAtTheDisksAVMWouldStartFromAnOldOne(t *testing.T) {
	blind := Tamper{Agent: func(_ string, e *app.Edges) { e.Drifts = nil }}
	r := Run(parse(t, snapshotThenPowerCut), Options{Seed: 1, Tamper: blind})
	if r.Err == nil || !strings.Contains(r.Err.Error(), "invariant 9") {
		t.Errorf("the checker says %v, want invariant 9", r.Err)
	}
}
