package app

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// gap is a definition's one place for a password: "?".
type gap struct{}

func (gap) Lack(xml string) (bool, error) { return strings.Contains(xml, "?"), nil }

func (gap) Put(xml string, passwords map[string]string) (string, error) {
	if p, ok := passwords["gap"]; ok {
		return strings.ReplaceAll(xml, "?", p), nil
	}
	return xml, nil
}

func TestAVMStartsWithThePasswordsThatItsRegistrationDoesNotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		a := b.agent(func(_ *Config, e *Edges) { e.Passwords = gap{} })
		b.write(b.keys.PutSecrets(pool.Secrets{VM: "web", Passwords: map[string]string{"gap": "hush"}}))
		if got, err := a.complete(t.Context(), pool.VM{ID: "web", XML: "vnc ?"}); got != "vnc hush" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if got, err := a.complete(t.Context(), pool.VM{ID: "new", XML: "vnc ?"}); got != "vnc ?" || err != nil {
			t.Errorf("without any: %q, %v", got, err)
		}
		b.write(kv.Put(b.keys.Secret("web"), []byte(`{"vm":"web","passwords":"hush"}`)))
		if _, err := a.complete(t.Context(), pool.VM{ID: "web", XML: "vnc ?"}); !errors.Is(err, pool.ErrInvalid) || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "secrets/web") {
			t.Errorf("an unreadable value: %v", err)
		}
		if got, err := a.complete(t.Context(), pool.VM{ID: "web", XML: "no display"}); got != "no display" || err != nil {
			t.Errorf("nothing lacks: %q, %v", got, err)
		}
	})
}

func TestPasswordsAreWrittenWithTheRegistrationAndGoWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		a := b.agent(nil)
		end := b.run(a)
		defer func() { _ = end() }()
		b.pass(1e9)
		vm := pool.DefaultVM("web")
		vm.MemoryBytes, vm.CPUs = 1<<30, 1
		rev, err := a.data.Apply(t.Context(), pool.Change{VMs: []pool.VM{vm}, Secrets: []pool.Secrets{{VM: "web", Passwords: map[string]string{"gap": "hush"}}}})
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := b.etcd.Get(t.Context(), b.keys.Secret("web"))
		if err != nil || !ok || got.ModRevision != rev {
			t.Fatalf("got %v %v %v, want one at %d", got, ok, err, rev)
		}
		vm.Revision = rev
		if _, err := a.data.Apply(t.Context(), pool.Change{RemoveVMs: []pool.VM{vm}}); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := b.etcd.Get(t.Context(), b.keys.Secret("web")); ok || err != nil {
			t.Errorf("they outlived their VM, %v", err)
		}
	})
}
