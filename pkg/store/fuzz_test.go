package store

import (
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Whatever a stranger writes under one of our keys: nothing breaks, and what stood beside it stays as it was.
func FuzzFoldSurvivesAnyValue(f *testing.F) {
	k := NewKeys("lab")
	good := k.PutVM(pool.DefaultVM("good"))
	for _, key := range []string{"config", "servers/x", "members/x", "leader/1", "roster", "vms/x", "claims/x", "states/x", "homes/x",
		"fences/x", "alerts/x", "operations/x", "events/x", "secrets/x", "what/x", "vms/", ""} {
		f.Add(key, []byte(`{}`))
		f.Add(key, []byte(`{"vm":"x","id":"x","server":"x","name":"lab","epoch":"-1","phase":"CLAIM_PHASE_HELD","session":"9"}`))
		f.Add(key, []byte("\xff{"))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if k.prefix+key == good.Key {
			return
		}
		fold := newFold(k, "")
		beside := kv.KeyValue{Key: good.Key, Value: good.Value, CreateRevision: 1, ModRevision: 1}
		stranger := kv.KeyValue{Key: k.prefix + key, Value: value, CreateRevision: 2, ModRevision: 2}
		if err := fold.list([]kv.KeyValue{beside}, 1); err != nil {
			t.Fatal(err)
		}
		if err := fold.apply(kv.Batch{Revision: 2, Events: []kv.Event{{KeyValue: stranger}}}); err != nil {
			return // another life of the pool: refused as a whole
		}
		vm, ok := fold.snap.VMs.Get("good")
		if !ok || vm.Revision != 1 {
			t.Errorf("a write to %q changed another VM: %+v", key, vm)
		}
		for _, reason := range fold.snap.Corrupt.All() {
			if len(reason) > 2000 {
				t.Errorf("the report has %d characters", len(reason))
			}
		}
	})
}
