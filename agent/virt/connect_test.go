//go:build libvirt_dlopen

package virt

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestModularDaemonsAreFoundBeforeLibvirtd(t *testing.T) {
	if got := (Options{}).complete().Sockets; !slices.Equal(got, []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}) {
		t.Errorf("by default they are looked for at %v", got)
	}
	dir := t.TempDir()
	modular, old := filepath.Join(dir, "virtqemud-sock"), filepath.Join(dir, "libvirt-sock")
	a := New(Options{Clock: clock.Real(), Sockets: []string{modular, old}})
	if _, err := a.addresses(); !errors.Is(err, pool.ErrUnavailable) || !strings.Contains(err.Error(), "is virtqemud or libvirtd running?") {
		t.Errorf("none: %v", err)
	}
	for _, c := range []struct {
		make string
		want []string
	}{{old, []string{old}}, {modular, []string{modular, old}}} {
		if err := os.WriteFile(c.make, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := a.addresses()
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "qemu+unix:///system?socket=")
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("got %v, %v, want %v", got, err, c.want)
		}
	}
	if got, err := New(Options{Clock: clock.Real(), URI: "qemu:///session"}).addresses(); err != nil || !slices.Equal(got, []string{"qemu:///session"}) {
		t.Errorf("a URI that was set: %v, %v", got, err)
	}
}

func TestADaemonThatIsGoneLeavesItsSocketAndTheOtherIsUsed(t *testing.T) {
	d := startDaemon(t)
	stale := d.write("virtqemud-sock", "")
	a := d.adapter(func(o *Options) { o.Sockets = []string{stale, d.socket()} })
	if h := a.Health(); !strings.HasSuffix(h.URI, d.socket()) {
		t.Errorf("connected to %s", h.URI)
	}
}
