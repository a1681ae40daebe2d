package fakepool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Pool is the pool behind all its agents.
type Pool struct {
	mu       sync.Mutex
	agents   []*Agent
	state    *pb.Snapshot
	xml      map[string]string
	watchers map[chan *pb.Delta]bool
	calls    []Call
	faults   map[string][]Fault
	scripts  map[string][]*pb.Operation
	serial   int
	me       *pb.WhoAmIResponse
	steady   bool
	drill    drill
}

// Call is one request that an agent got.
type Call struct {
	// Method is the RPC's name without its service, such as "StartVM".
	Method string
	Agent  int
	Body   proto.Message
}

// Fault is what happens to one call.
type Fault struct {
	// Err is answered instead of doing anything.
	Err error
	// Die has the agent die without an answer; with Done set, after it has done what was asked.
	Die, Done bool
	// Hang has the call never answered.
	Hang bool
}

// Agent is one address of the pool.
type Agent struct {
	pb.UnimplementedPoolServiceServer
	pb.UnimplementedServerServiceServer
	pb.UnimplementedVMServiceServer
	pb.UnimplementedOperationServiceServer
	pb.UnimplementedEventServiceServer
	pb.UnimplementedIdentityServiceServer
	pb.UnimplementedDrillServiceServer

	pool   *Pool
	number int
	addr   string
	server *grpc.Server
	done   chan struct{}
}

// New returns a pool with that state and no agents yet.
func New(state *pb.Snapshot) *Pool {
	return &Pool{
		state: state, xml: map[string]string{}, watchers: map[chan *pb.Delta]bool{}, faults: map[string][]Fault{},
		scripts: map[string][]*pb.Operation{},
	}
}

// Start adds agents on loopback and returns all addresses so far.
func (p *Pool) Start(n int, opts ...grpc.ServerOption) ([]string, error) {
	for range n {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		a := &Agent{pool: p, number: len(p.agents), addr: lis.Addr().String(), done: make(chan struct{})}
		p.agents = append(p.agents, a)
		p.mu.Unlock()
		a.server = grpc.NewServer(append(opts, grpc.ChainUnaryInterceptor(rpc.UnaryErrors, a.unary), grpc.ChainStreamInterceptor(rpc.StreamErrors, a.stream))...)
		pb.RegisterPoolServiceServer(a.server, a)
		pb.RegisterServerServiceServer(a.server, a)
		pb.RegisterVMServiceServer(a.server, a)
		pb.RegisterOperationServiceServer(a.server, a)
		pb.RegisterEventServiceServer(a.server, a)
		pb.RegisterIdentityServiceServer(a.server, a)
		pb.RegisterDrillServiceServer(a.server, a)
		go func() {
			defer close(a.done)
			_ = a.server.Serve(lis) // ends with Stop
		}()
	}
	return p.Addresses(), nil
}

// Addresses lists host:port of all agents, the dead ones too.
func (p *Pool) Addresses() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, a := range p.agents {
		out = append(out, a.addr)
	}
	return out
}

// Kill has one agent die; its connections break.
func (p *Pool) Kill(agent int) error {
	p.mu.Lock()
	if agent >= len(p.agents) {
		p.mu.Unlock()
		return fmt.Errorf("no agent %d", agent)
	}
	a := p.agents[agent]
	p.mu.Unlock()
	a.server.Stop()
	<-a.done
	return nil
}

// Close ends all agents.
func (p *Pool) Close() {
	for i := range p.Addresses() {
		_ = p.Kill(i) // it exists
	}
}

// Fail orders what happens to the next calls of a method, one fault each; "*" is any method.
func (p *Pool) Fail(method string, faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[method] = append(p.faults[method], faults...)
}

// Calls returns the calls of a method so far; all for "".
func (p *Pool) Calls(method string) []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Call
	for _, c := range p.calls {
		if method == "" || c.Method == method {
			out = append(out, c)
		}
	}
	return out
}

// fault records a call and takes what was ordered for it.
func (a *Agent) fault(method string, body proto.Message) (Fault, bool) {
	p := a.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, Call{Method: method, Agent: a.number, Body: body})
	for _, key := range []string{method, "*"} {
		if q := p.faults[key]; len(q) > 0 {
			p.faults[key] = q[1:]
			return q[0], true
		}
	}
	return Fault{}, false
}

func (a *Agent) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	body, ok := req.(proto.Message)
	if !ok {
		return nil, errors.New("request is no message")
	}
	f, ok := a.fault(path.Base(info.FullMethod), body)
	switch {
	case !ok:
		return next(ctx, req)
	case f.Hang:
		<-ctx.Done()
		return nil, ctx.Err()
	case f.Die:
		if f.Done {
			if _, err := next(ctx, req); err != nil {
				return nil, err
			}
		}
		go a.server.Stop()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, f.Err
}

func (a *Agent) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if f, ok := a.fault(path.Base(info.FullMethod), nil); ok {
		if f.Hang {
			<-s.Context().Done()
			return s.Context().Err()
		}
		return f.Err
	}
	return next(srv, s)
}

// Change applies a change to the pool and tells the watchers.
func (p *Pool) Change(d *pb.Delta) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change(d)
}

func (p *Pool) change(d *pb.Delta) {
	s := p.state
	s.Pool.Revision++
	if d.GetPool() != nil {
		d.Pool.Revision = s.Pool.Revision
		s.Pool = d.GetPool()
	}
	s.Servers = merge(s.GetServers(), d.GetServers(), d.GetServersRemoved(), func(v *pb.ServerView) string { return v.GetServer().GetId() })
	s.Vms = merge(s.GetVms(), d.GetVms(), d.GetVmsRemoved(), func(v *pb.VMView) string { return v.GetVm().GetId() })
	s.Operations = merge(s.GetOperations(), d.GetOperations(), d.GetOperationsRemoved(), (*pb.Operation).GetId)
	s.Events = append(s.Events, d.GetEvents()...)
	for w := range p.watchers {
		select {
		case w <- d:
		default: // a watcher that does not read; tests are too short for that
		}
	}
}

func merge[T any](have, changed []T, gone []string, id func(T) string) []T {
	out := slices.DeleteFunc(slices.Clone(have), func(x T) bool {
		return slices.Contains(gone, id(x)) || slices.ContainsFunc(changed, func(c T) bool { return id(c) == id(x) })
	})
	out = append(out, changed...)
	slices.SortStableFunc(out, func(a, b T) int {
		if id(a) < id(b) {
			return -1
		}
		return 1
	})
	return out
}

// Script says how the next operation of a VM goes: each look at it shows the next step; the last one stays.
func (p *Pool) Script(vm string, steps ...*pb.Operation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scripts[vm] = steps
}

func notFound(kind, name string) error {
	return fmt.Errorf("no %s %s in this pool: %w", kind, name, pool.ErrNotFound)
}
