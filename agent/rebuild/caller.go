package rebuild

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/saved"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Answer is what one server says of itself.
type Answer struct {
	Server   pool.ServerID
	Standing *pb.LifeStanding
	// Copy is its copy of the pool's state; nil if it has none. CopyErr says why a copy cannot be used.
	Copy    *saved.State
	CopyErr error
}

// Caller asks the agents of other servers, each on a connection of its own, with this server's identity.
type Caller struct {
	// TLS returns how to talk to a server.
	TLS func(pool.ServerID) *tls.Config
	// Limit bounds one question.
	Limit time.Duration
}

// maxCopy bounds a copy that another server sends.
const maxCopy = 1 << 30

// Ask returns how one server stands; brief: without its VMs and its copy.
func (c Caller) Ask(ctx context.Context, server pool.ServerID, address string, brief bool) (Answer, error) {
	a := Answer{Server: server}
	err := c.with(ctx, server, address, func(ctx context.Context, mesh pb.MeshServiceClient) error {
		stream, err := mesh.GetSavedState(ctx, &pb.GetSavedStateRequest{Brief: brief})
		if err != nil {
			return err
		}
		var data []byte
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if m.GetStanding() != nil {
				a.Standing = m.GetStanding()
			}
			if data = append(data, m.GetPart()...); len(data) > maxCopy {
				return fmt.Errorf("its copy is larger than %d bytes: %w", maxCopy, pool.ErrInvalid)
			}
		}
		if a.Standing == nil {
			return fmt.Errorf("it does not say how it stands: %w", pool.ErrInvalid)
		}
		if len(data) > 0 {
			st, err := saved.Decode(data)
			if a.CopyErr = err; err == nil {
				a.Copy = &st
			}
		}
		return nil
	})
	return a, err
}

// Adopt has a server leave its life of the pool's data for another one.
func (c Caller) Adopt(ctx context.Context, server pool.ServerID, address string, r *pb.AdoptLifeRequest) error {
	return c.with(ctx, server, address, func(ctx context.Context, mesh pb.MeshServiceClient) error {
		_, err := mesh.AdoptLife(ctx, r)
		return err
	})
}

func (c Caller) with(ctx context.Context, server pool.ServerID, address string, call func(context.Context, pb.MeshServiceClient) error) error {
	conn, err := rpc.Dial(rpc.Target{Agents: []string{address}, TLS: c.TLS(server)}, rpc.Limits{})
	if err != nil {
		return fmt.Errorf("%s at %s: %w", server, address, err)
	}
	defer conn.Close() //nolint:errcheck // whatever was said was answered
	ctx, cancel := clock.Real().WithTimeout(ctx, c.Limit)
	defer cancel()
	if err := call(ctx, pb.NewMeshServiceClient(conn)); err != nil {
		return fmt.Errorf("%s at %s: %w", server, address, rpc.FromStatus(err))
	}
	return nil
}

// Collected is what the servers of a pool answered.
type Collected struct {
	// Answers of the servers that answered, sorted by server.
	Answers []Answer
	// Silent servers are registered and did not answer, with why.
	Silent map[pool.ServerID]error
}

// Copies returns the copies that can be used.
func (c Collected) Copies() []saved.State {
	var all []saved.State
	for _, a := range c.Answers {
		if a.Copy != nil {
			all = append(all, *a.Copy)
		}
	}
	return all
}

// Collect asks every server that known names, all at once, and then those that only their copies name. It takes twice the
// caller's limit at most.
func Collect(ctx context.Context, c Caller, known pool.Table[pool.ServerID, pool.Server], brief bool) Collected {
	got := Collected{Silent: map[pool.ServerID]error{}}
	asked := map[pool.ServerID]bool{}
	for range 2 {
		var mu sync.Mutex
		var wait sync.WaitGroup
		for id, s := range known.All() {
			if asked[id] {
				continue
			}
			asked[id] = true
			wait.Go(func() {
				a, err := c.Ask(ctx, id, s.Address, brief)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					got.Silent[id] = err
					return
				}
				got.Answers = append(got.Answers, a)
			})
		}
		wait.Wait()
		for _, a := range got.Answers {
			if a.Copy == nil {
				continue
			}
			for id, s := range a.Copy.Servers.All() {
				if !known.Has(id) {
					known = known.With(id, s)
				}
			}
		}
	}
	slices.SortFunc(got.Answers, func(a, b Answer) int { return cmpServers(a.Server, b.Server) })
	return got
}

func cmpServers(a, b pool.ServerID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
