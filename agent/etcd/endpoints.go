package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// known is what a machine keeps on disk of the pool's etcd, for a start without anybody to ask.
type known struct {
	Endpoints []string `json:"endpoints"`
}

func endpointsFile(dir string) string { return filepath.Join(dir, "endpoints.json") }

// SaveEndpoints keeps the URLs of the members that answer clients below dir (config.Config.EtcdDir).
func SaveEndpoints(dir string, endpoints []string) error {
	data, err := json.Marshal(known{Endpoints: endpoints})
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	return statefile.Replace(endpointsFile(dir), append(data, '\n'), 0o600)
}

// LoadEndpoints reads what SaveEndpoints kept; empty if nothing was. From PutAside on it is what PutAside was told, though
// the data may not be aside yet: other servers ask for it, and where the old etcd was is no answer.
func LoadEndpoints(dir string) ([]string, error) {
	if a, pending, err := readAside(dir); err != nil || pending && len(a.Endpoints) > 0 {
		return a.Endpoints, err
	}
	data, err := os.ReadFile(endpointsFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	var k known
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("%s: %w: %w; delete it and it is made anew", endpointsFile(dir), err, pool.ErrInvalid)
	}
	return k.Endpoints, nil
}

// ClientURLs returns where clients are served: every client URL of the members that vote and have started, sorted.
// Learners refuse clients.
func ClientURLs(members []Member) []string {
	var urls []string
	for _, m := range members {
		if !m.Learner && m.Started() {
			urls = append(urls, m.ClientURLs...)
		}
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// nearest puts the URLs of this machine's own member first, if it serves clients. A client prefers the first: with
// the same order everywhere, all servers would feel the loss of one and the same member.
func nearest(urls []string, members []Member, own uint64) []string {
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == own && own != 0 })
	if i < 0 {
		return urls
	}
	out := slices.Clone(urls)
	slices.SortStableFunc(out, func(a, b string) int {
		return strings.Compare(far(members[i], a), far(members[i], b))
	})
	return out
}

func far(own Member, url string) string {
	if slices.Contains(own.ClientURLs, url) {
		return "0"
	}
	return "1"
}

// Endpoints keeps a client's endpoints, and the copy on disk, equal to the members that serve clients, this
// machine's own first. Run it in every agent that uses embedded etcd.
type Endpoints struct {
	// Dir is where the copy is kept.
	Dir string
	// View reads the member list; Apply gives endpoints to the client.
	View  func(ctx context.Context) (View, error)
	Apply func(endpoints ...string)
	Clock clock.Clock
	Log   *slog.Logger
	// Every is the interval; 5 s if zero.
	Every time.Duration

	have []string
}

// Run refreshes until ctx ends.
func (e *Endpoints) Run(ctx context.Context) error {
	every := e.Every
	if every == 0 {
		every = 5 * time.Second
	}
	for ctx.Err() == nil {
		if err := e.Step(ctx); err != nil && ctx.Err() == nil {
			e.Log.Debug("etcd endpoints", "err", err)
		}
		if err := e.Clock.Sleep(ctx, every); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// followDisk takes the copy for what is true while nobody answers: after a rebuild etcd is elsewhere, and the process that
// puts the old data aside learns where.
func (e *Endpoints) followDisk() {
	kept, err := LoadEndpoints(e.Dir)
	if err != nil || len(kept) == 0 || slices.Equal(kept, e.have) {
		return
	}
	e.Apply(kept...)
	e.have = kept
}

// Step refreshes once. An answer without any voter that serves clients changes nothing.
func (e *Endpoints) Step(ctx context.Context) error {
	v, err := e.View(ctx)
	if err != nil {
		e.followDisk()
		return err
	}
	local, err := Config{Dir: e.Dir}.local()
	if err != nil {
		return err
	}
	urls := nearest(ClientURLs(v.Members), v.Members, local.MemberID)
	if len(urls) == 0 || slices.Equal(urls, e.have) {
		return nil
	}
	e.Apply(urls...)
	if err := SaveEndpoints(e.Dir, urls); err != nil {
		return err
	}
	e.Log.Info("etcd endpoints", "from", e.have, "to", urls)
	e.have = urls
	return nil
}
