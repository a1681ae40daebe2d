package demo

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
)

// startEtcd runs a member of one on loopback and returns where it serves clients.
func startEtcd(ctx context.Context, dir string, port int) (*embed.Etcd, string, error) {
	client := url.URL{Scheme: "http", Host: address(port, 0)}
	peer := url.URL{Scheme: "http", Host: address(port, 1)}
	c := embed.NewConfig()
	c.Name, c.Dir, c.LogLevel, c.LogOutputs = "demo", dir, "error", []string{"/dev/null"}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = 50, 500
	c.UnsafeNoFsync = true // the data is thrown away at the end
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, "", fmt.Errorf("start etcd on %s (is a demo running already?): %w", client.Host, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, client.String(), nil
	case err := <-e.Err():
		e.Close()
		return nil, "", fmt.Errorf("start etcd: %w", err)
	case <-time.After(20 * time.Second):
		e.Close()
		return nil, "", fmt.Errorf("etcd did not become ready")
	case <-ctx.Done():
		e.Close()
		return nil, "", ctx.Err()
	}
}

// openEtcd connects to it.
func openEtcd(endpoint string) (*kvetcd.Etcd, error) {
	return kvetcd.Open(kvetcd.Options{Endpoints: []string{endpoint}})
}
