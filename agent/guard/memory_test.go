package guard_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestMemoryGivesBackWhatWasSavedLast(t *testing.T) {
	dir := t.TempDir()
	m, err := guard.NewFileMemory(dir, "boot-1")
	must(t, err)
	if _, ok, err := m.Load(); ok || err != nil {
		t.Fatalf("nothing was saved, yet Load says %v, %v", ok, err)
	}
	want := guard.Saved{Leases: []guard.Lease{leaseOf(7, 1000)}, Held: []guard.SavedHold{{Held: withMonitor(held(1, 7)), Still: true}, {Held: held(2, 7)}},
		Paused: []pool.VMID{"vm-1"}}
	must(t, m.Save(guard.Saved{Held: []guard.SavedHold{{Held: held(3, 7)}}}))
	must(t, m.Save(want))
	again, err := guard.NewFileMemory(dir, "boot-1")
	must(t, err)
	if got, ok, err := again.Load(); !ok || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, %v, want %+v", got, ok, err, want)
	}
	marks, err := os.ReadDir(filepath.Join(dir, "boots", "boot-1", "held"))
	if err != nil || len(marks) != 2 {
		t.Errorf("%d processes are listed, %v, want 2", len(marks), err)
	}
}

func TestMemoryOfAnotherBootIsRemoved(t *testing.T) {
	dir := t.TempDir()
	old, err := guard.NewFileMemory(dir, "boot-1")
	must(t, err)
	must(t, old.Save(guard.Saved{Held: []guard.SavedHold{{Held: held(1, 7)}}}))
	m, err := guard.NewFileMemory(dir, "boot-2")
	must(t, err)
	if got, ok, err := m.Load(); ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "boots", "boot-1")); !os.IsNotExist(err) {
		t.Errorf("the other boot's folder: %v", err)
	}
}

func TestOneChangedDigitIsNoticed(t *testing.T) {
	dir := t.TempDir()
	m, err := guard.NewFileMemory(dir, "boot-1")
	must(t, err)
	must(t, m.Save(guard.Saved{Leases: []guard.Lease{leaseOf(7, 1000)}, Held: []guard.SavedHold{{Held: held(1, 7)}}}))
	path := filepath.Join(dir, "boots", "boot-1", "state.json")
	b, err := os.ReadFile(path)
	must(t, err)
	for i := range b {
		if b[i] < '0' || b[i] > '8' {
			continue
		}
		changed := append([]byte(nil), b...)
		changed[i]++
		must(t, os.WriteFile(path, changed, 0o600))
		got, ok, err := m.Load()
		if !ok || err == nil || len(got.Leases) != 0 || len(got.Held) != 1 || got.Held[0].Process != held(1, 7).Process {
			t.Fatalf("byte %d changed: got %+v, %v, %v", i, got, ok, err)
		}
	}
}

func TestForeignFilesAmongTheListedAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	m, err := guard.NewFileMemory(dir, "boot-1")
	must(t, err)
	for _, name := range []string{"readme", "1,2,init", "-5,2,x", "x,y,z", "12,34"} {
		must(t, os.WriteFile(filepath.Join(dir, "boots", "boot-1", "held", name), nil, 0o600))
	}
	if got, ok, err := m.Load(); ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
}
