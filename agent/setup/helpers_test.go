package setup

import (
	"os"
	"testing"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// remove is what the API does to take a server out of the pool.
func remove(n *node, server pool.ServerID) kv.Txn {
	keys := n.store.Keys()
	return kv.Txn{Then: []kv.Op{keys.DeleteServer(server), keys.DeleteMember(server)}}
}

func exist(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// wipe loses a machine's etcd data but not what it knows of the others.
func wipe(t *testing.T, n *node) {
	t.Helper()
	if err := os.RemoveAll(n.settings.EtcdDir() + "/data"); err != nil {
		t.Fatal(err)
	}
}

func idOf(v etcd.View, name string) uint64 {
	for _, m := range v.Members {
		if m.Name == name {
			return m.ID
		}
	}
	return 0
}
