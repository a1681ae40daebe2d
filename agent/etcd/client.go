package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Access is how a client reaches etcd.
type Access struct {
	Endpoints []string
	// TLS is nil only for an etcd on this machine's loopback.
	TLS                *tls.Config
	Username, Password string
}

// keepalive: a connection whose other end vanished is noticed within their sum, so that a watch moves on.
const (
	dialKeepAlive        = 2 * time.Second
	dialKeepAliveTimeout = 2 * time.Second
)

// Dial returns a client. It does not wait for a connection. Close it.
func Dial(ctx context.Context, a Access) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: a.Endpoints, TLS: a.TLS, Username: a.Username, Password: a.Password,
		DialTimeout: 5 * time.Second, DialKeepAliveTime: dialKeepAlive, DialKeepAliveTimeout: dialKeepAliveTimeout,
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	return c, nil
}

// Cluster changes etcd's membership through a client. Safe for concurrent use.
type Cluster struct {
	Client *clientv3.Client
	// Access is what Client was made with; its endpoints are not used.
	Access Access
	// Timeout bounds each request.
	Timeout time.Duration
}

// View reads the member list linearizably, without asking how the members are.
func (c Cluster) View(ctx context.Context) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	resp, err := c.Client.MemberList(ctx)
	if err != nil {
		return View{}, fmt.Errorf("list etcd members: %w: %w", err, pool.ErrUnavailable)
	}
	v := View{Known: true, ClusterID: resp.Header.ClusterId}
	for _, m := range resp.Members {
		if len(m.PeerURLs) == 0 {
			continue
		}
		v.Members = append(v.Members, Member{ID: m.ID, Name: m.Name, PeerURL: m.PeerURLs[0], ClientURLs: m.ClientURLs, Learner: m.IsLearner})
	}
	return v, nil
}

// Members reads the member list linearizably and asks each started member whether it is there.
func (c Cluster) Members(ctx context.Context) ([]Member, error) {
	v, err := c.View(ctx)
	if err != nil {
		return nil, err
	}
	answers := make(chan int, len(v.Members))
	asked := 0
	for i, m := range v.Members {
		if len(m.ClientURLs) == 0 {
			continue
		}
		asked++
		go func() {
			sctx, cancel := context.WithTimeout(ctx, c.Timeout)
			defer cancel()
			if _, err := c.Client.Status(sctx, m.ClientURLs[0]); err != nil {
				i = -1
			}
			answers <- i
		}()
	}
	for range asked {
		if i := <-answers; i >= 0 {
			v.Members[i].Healthy = true
		}
	}
	return v.Members, nil
}

// Add adds a learner.
func (c Cluster) Add(ctx context.Context, peerURL string) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	_, err := c.Client.MemberAddAsLearner(ctx, []string{peerURL})
	return changed("add etcd learner "+peerURL, err)
}

// ErrNotReady says that the learner has not caught up yet, or etcd finds the change unsafe at this moment. Try again.
var ErrNotReady = errors.New("etcd is not ready for the change")

// Promote gives a learner its vote, or returns ErrNotReady.
func (c Cluster) Promote(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	_, err := c.Client.MemberPromote(ctx, id)
	return changed("promote etcd learner", err)
}

// Remove takes a member out. If it leads etcd, leadership is handed over first: cheaper than an election.
func (c Cluster) Remove(ctx context.Context, id uint64) error {
	c.handOver(ctx, id)
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	_, err := c.Client.MemberRemove(ctx, id)
	return changed("remove etcd member", err)
}

// handOver is best effort: without it the others elect a new leader by themselves.
func (c Cluster) handOver(ctx context.Context, id uint64) {
	members, err := c.Members(ctx)
	if err != nil {
		return
	}
	var from, to *Member
	for i, m := range members {
		switch {
		case m.ID == id && len(m.ClientURLs) > 0:
			from = &members[i]
		case m.ID != id && !m.Learner && m.Healthy && to == nil:
			to = &members[i]
		}
	}
	if from == nil || to == nil || !from.Healthy {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	st, err := c.Client.Status(ctx, from.ClientURLs[0])
	if err != nil || st.Leader != id {
		return
	}
	// Only the leader itself takes the request, so it goes through a client of its own to that member.
	access := c.Access
	access.Endpoints = from.ClientURLs[:1]
	own, err := Dial(ctx, access)
	if err != nil {
		return
	}
	defer own.Close() //nolint:errcheck // best effort
	_, _ = own.MoveLeader(ctx, to.ID)
}

func changed(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady), errors.Is(err, rpctypes.ErrUnhealthy),
		errors.Is(err, rpctypes.ErrMemberNotEnoughStarted), errors.Is(err, rpctypes.ErrTooManyLearners):
		return fmt.Errorf("%s: %w: %w", what, err, ErrNotReady)
	case errors.Is(err, rpctypes.ErrMemberNotFound), errors.Is(err, rpctypes.ErrPeerURLExist), errors.Is(err, rpctypes.ErrMemberNotLearner):
		return fmt.Errorf("%s: %w: %w", what, err, pool.ErrStale)
	}
	// A time-out says nothing about the change; every caller reads the list anew before it does anything else.
	return fmt.Errorf("%s: %w: %w", what, err, pool.ErrOutcomeUnknown)
}
