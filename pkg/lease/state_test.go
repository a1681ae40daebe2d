package lease_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/lease"
)

func TestKeptStateIsReadBackUnlessAnotherBootWroteIt(t *testing.T) {
	f := lease.FileState{Path: filepath.Join(t.TempDir(), "run", "session.json"), BootID: "boot-1"}
	if _, ok, err := f.Load(); ok || err != nil {
		t.Fatalf("nothing was kept, yet Load returns %v, %v", ok, err)
	}
	want := lease.State{MemberKey: "/k", Incarnation: "i", Session: 7, Lease: 1 << 62, TTL: 5 * time.Second, NextLease: 3, NextTTL: time.Minute}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := f.Load(); got != want || !ok || err != nil {
		t.Errorf("got %+v, %v, %v, want %+v", got, ok, err, want)
	}
	f.BootID = "boot-2"
	if _, ok, err := f.Load(); ok || err != nil {
		t.Errorf("the state of another boot was taken: %v, %v", ok, err)
	}
}

func TestDamagedStateIsAnErrorNotAState(t *testing.T) {
	f := lease.FileState{Path: filepath.Join(t.TempDir(), "session.json"), BootID: "boot-1"}
	for _, text := range []string{"", "{", "null garbage", `{"lease":"x"}`} {
		if err := os.WriteFile(f.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := f.Load(); ok || err == nil {
			t.Errorf("%q: got %v, %v", text, ok, err)
		}
	}
}

func TestBootIDIsThatOfTheKernel(t *testing.T) {
	id, err := lease.BootID()
	if err != nil || len(id) != 36 {
		t.Errorf("got %q, %v", id, err)
	}
}
