package etcdtest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// Wipe loses the data of a member that is stopped.
func (m *Member) Wipe() {
	m.cluster.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.folder, "data")); err != nil {
		m.cluster.t.Fatalf("wipe %s: %v", m.name, err)
	}
}

// Save writes a snapshot of the data to a file, as etcdctl snapshot save FILE does.
func (c *Cluster) Save(file string) {
	c.t.Helper()
	c.ask("save "+file, func(ctx context.Context, client *clientv3.Client) error {
		r, err := client.Snapshot(ctx)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o600)
	})
}

// Restore makes the data of the only member anew, while it is stopped and wiped, from a file that Save wrote; as etcdutl snapshot restore FILE --bump-revision bump --mark-compacted does.
func (m *Member) Restore(file string, bump uint64) {
	m.cluster.t.Helper()
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: file, Name: m.name, OutputDataDir: filepath.Join(m.folder, "data"),
		PeerURLs: []string{m.peers.url()}, InitialCluster: m.initial, InitialClusterToken: m.secret + "-anew", RevisionBump: bump, MarkCompacted: true})
	if err != nil {
		m.cluster.t.Fatalf("restore %s: %v", m.name, err)
	}
}
