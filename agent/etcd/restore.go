package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// Rebuild makes a new etcd for c with one member, whose revisions all come after the one given, and fills it with seed. It
// is made in a folder of its own beside the data, reached by nobody but seed; nothing is served afterwards. The returned
// function puts it into place, from where the machine's process starts it: there must be no data there. discard removes
// what was made and not put into place.
//
// Revisions after all that were seen before, because a process that still knows the old data may send a write that compares
// one: no revision of the new etcd is equal to it. Nor is any session, which is a revision. token makes this etcd different
// from every other.
func Rebuild(ctx context.Context, c Config, token string, after pool.Revision, log *slog.Logger, seed func(ctx context.Context, a Access) error) (
	place func() error, discard func(), err error) {
	dir, err := os.MkdirTemp(c.Dir, ".rebuild-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for the new etcd: %w", err)
	}
	discard = func() { _ = os.RemoveAll(dir) }
	first := c
	first.Dir = filepath.Join(dir, "first")
	if err = first.listenLocally(); err == nil {
		err = Bootstrap(ctx, first, token+"-seed", log, seed)
	}
	made := filepath.Join(dir, "data")
	if err == nil {
		err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: filepath.Join(first.dataDir(), "member", "snap", "db"), SkipHashCheck: true,
			Name: c.Name, OutputDataDir: made, PeerURLs: []string{c.PeerURL}, InitialCluster: c.Name + "=" + c.PeerURL, InitialClusterToken: token,
			RevisionBump: uint64(max(after, 0)), MarkCompacted: after > 0})
	}
	if err != nil {
		discard()
		return nil, nil, fmt.Errorf("make the new etcd: %w", err)
	}
	return func() error {
		if l, err := c.local(); err != nil || l.HasData {
			return fmt.Errorf("there is etcd data in %s already: %w", c.dataDir(), pool.ErrRefused)
		}
		if err := SaveEndpoints(c.Dir, []string{c.ClientURL}); err != nil {
			return err
		}
		if err := os.Rename(made, c.dataDir()); err != nil {
			return fmt.Errorf("put the new etcd in place: %w", err)
		}
		return statefile.SyncDir(c.Dir)
	}, discard, nil
}

// listenLocally has c listen where nobody else looks.
func (c *Config) listenLocally() error {
	var urls []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() //nolint:errcheck // freed for etcd to take
		urls = append(urls, "https://"+l.Addr().String())
	}
	c.PeerURL, c.ClientURL = urls[0], urls[1]
	c.ListenPeer, c.ListenClient = urls[:1], urls[1:]
	return nil
}
