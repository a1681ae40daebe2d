package holdfast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// Voter is one voting member of the pool's etcd, and what it says of itself.
type Voter struct {
	Server string
	ID     uint64
	URL    string
	// Alive says that it answered; the rest is known only then.
	Alive    bool
	Leads    bool
	Revision int64
}

// etcdAsk bounds a question to one etcd member.
const etcdAsk = 700 * time.Millisecond

// Etcd returns a client of the pool's etcd with a server's rights. Close it.
func (p *Pool) Etcd(ctx context.Context) (*clientv3.Client, error) {
	store, err := pki.Open(p.serverFiles())
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, s := range p.Lab.Servers() {
		endpoints = append(endpoints, "https://"+s.Address()+":2379")
	}
	return clientv3.New(clientv3.Config{Context: ctx, Endpoints: endpoints, TLS: store.Client(pki.ServerHost),
		DialTimeout: 2 * time.Second, Logger: zap.NewNop()})
}

// Voters asks etcd for its voting members, sorted by server, and each of them how it is.
func (p *Pool) Voters(ctx context.Context) ([]Voter, error) {
	c, err := p.Etcd(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return p.voters(ctx, c)
}

func (p *Pool) voters(ctx context.Context, c *clientv3.Client) ([]Voter, error) {
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	list, err := c.MemberList(ask)
	if err != nil {
		return nil, fmt.Errorf("list etcd members: %w", err)
	}
	var voters []Voter
	for _, m := range list.Members {
		if m.IsLearner || len(m.ClientURLs) == 0 {
			continue
		}
		v := Voter{ID: m.ID, URL: p.etcdURL(m.ClientURLs), Server: m.Name}
		one, cancel := context.WithTimeout(ctx, etcdAsk)
		if st, err := c.Status(one, v.URL); err == nil {
			v.Alive, v.Leads, v.Revision = true, st.Leader == m.ID, st.Header.Revision
		}
		cancel()
		voters = append(voters, v)
	}
	slices.SortFunc(voters, func(a, b Voter) int { return strings.Compare(a.Server, b.Server) })
	return voters, nil
}

// etcdURL chooses the URL that is reached from this machine.
func (p *Pool) etcdURL(urls []string) string {
	for _, u := range urls {
		for _, s := range p.Lab.Servers() {
			if strings.Contains(u, "//"+s.Address()+":") {
				return u
			}
		}
	}
	return urls[0]
}

// EtcdLeader names the server whose etcd member leads etcd.
func (p *Pool) EtcdLeader(ctx context.Context) (string, error) {
	voters, err := p.Voters(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range voters {
		if v.Leads {
			return v.Server, nil
		}
	}
	return "", errors.New("no etcd member leads")
}

// UntilVoters waits until etcd has the votes that a pool of this size has, at most n, and all of them answer.
func (p *Pool) UntilVoters(ctx context.Context, n int) error {
	if servers := len(p.Lab.Servers()); servers < n {
		n = 1
	}
	c, err := p.Etcd(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return until(ctx, fmt.Sprintf("etcd has %d voters", n), func() (bool, string) {
		voters, err := p.voters(ctx, c)
		if err != nil {
			return false, err.Error()
		}
		alive, leads := 0, false
		for _, v := range voters {
			if v.Alive {
				alive++
			}
			leads = leads || v.Leads
		}
		return len(voters) == n && alive == n && leads, fmt.Sprintf("%+v", voters)
	})
}

// MoveEtcdLeader makes a server's etcd member the leader of etcd.
func (p *Pool) MoveEtcdLeader(ctx context.Context, server string) error {
	voters, err := p.Voters(ctx)
	if err != nil {
		return err
	}
	from, to := -1, -1
	for i, v := range voters {
		if v.Leads {
			from = i
		}
		if v.Server == server {
			to = i
		}
	}
	switch {
	case from < 0 || to < 0:
		return fmt.Errorf("move etcd's leadership to %s: voters are %+v", server, voters)
	case from == to:
		return nil
	}
	c, err := p.Etcd(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	c.SetEndpoints(voters[from].URL) // only the leader itself takes the request
	if _, err := c.MoveLeader(ctx, voters[to].ID); err != nil {
		return fmt.Errorf("move etcd's leadership to %s: %w", server, err)
	}
	return nil
}

// UntilLeases waits until every member's lease lives as long as that.
func (p *Pool) UntilLeases(ctx context.Context, ttl time.Duration) error {
	c, err := p.Etcd(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return until(ctx, fmt.Sprintf("every lease lives for %v", ttl), func() (bool, string) {
		r, err := c.Get(ctx, "/holdfast/v1/"+PoolName+"/members/", clientv3.WithPrefix())
		if err != nil {
			return false, err.Error()
		}
		good := len(r.Kvs)
		var seen []string
		for _, kv := range r.Kvs {
			l, err := c.TimeToLive(ctx, clientv3.LeaseID(kv.Lease))
			if err != nil {
				return false, err.Error()
			}
			if l.GrantedTTL != int64(ttl/time.Second) {
				good--
			}
			seen = append(seen, fmt.Sprintf("%s %d s", kv.Key, l.GrantedTTL))
		}
		return good == len(p.Lab.Servers()), strings.Join(seen, ", ")
	})
}

// ChangedSince lists the keys that changed after a revision, for failures.
func (p *Pool) ChangedSince(ctx context.Context, revision int64) ([]string, error) {
	c, err := p.Etcd(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	r, err := c.Get(ctx, "/", clientv3.WithFromKey(), clientv3.WithMinModRev(revision+1))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, kv := range r.Kvs {
		keys = append(keys, fmt.Sprintf("%s (revision %d)", kv.Key, kv.ModRevision))
	}
	return keys, nil
}
