package holdfast

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
	"github.com/holdfast-ha/holdfast/test/lab"
)

// Pool is the pool of a lab as an operator on this machine would reach it. Safe for concurrent use.
type Pool struct {
	Lab *lab.Lab
	// The services, of whichever agent answers.
	Pools      pb.PoolServiceClient
	Servers    pb.ServerServiceClient
	VMs        pb.VMServiceClient
	Operations pb.OperationServiceClient
	Events     pb.EventServiceClient

	client *rpc.Client
	files  pki.Files
}

// limits are short: in a lab agents are near, and some are dead.
var limits = rpc.Limits{Connect: 2 * time.Second, Stagger: 150 * time.Millisecond, Read: time.Second, Write: 30 * time.Second}

// Open reaches the lab's pool through all of its agents, or only those of the servers that are named: an agent that
// is cut off from etcd answers with what it last knew.
func Open(l *lab.Lab, only ...string) (*Pool, error) {
	servers := l.Servers()
	if len(servers) == 0 {
		return nil, fmt.Errorf("the lab is down")
	}
	first := servers[0]
	client, err := config.LoadClient(first.Path("/etc/holdfast/client.yaml"))
	if err != nil {
		return nil, fmt.Errorf("the lab has no pool (lab up without --bare makes one): %w", err)
	}
	p := &Pool{Lab: l, files: pki.Files{CA: first.Path(client.CA), Cert: first.Path(client.Cert), Key: first.Path(client.Key)}}
	store, err := pki.Open(p.files)
	if err != nil {
		return nil, err
	}
	target := rpc.Target{TLS: store.Client(pki.ServerHost)}
	for _, s := range servers {
		if len(only) == 0 || contains(only, s.Name()) {
			target.Agents = append(target.Agents, s.Address()+":"+agentPort)
		}
	}
	if p.client, err = rpc.Dial(target, limits); err != nil {
		return nil, err
	}
	p.Pools, p.Servers, p.VMs = pb.NewPoolServiceClient(p.client), pb.NewServerServiceClient(p.client), pb.NewVMServiceClient(p.client)
	p.Operations, p.Events = pb.NewOperationServiceClient(p.client), pb.NewEventServiceClient(p.client)
	return p, nil
}

func contains(list []string, name string) bool {
	for _, n := range list {
		if n == name {
			return true
		}
	}
	return false
}

// Close ends the connections.
func (p *Pool) Close() {
	_ = p.client.Close() // there is nothing to do about a failure
}

// serverFiles is the identity of the lab's first server, which etcd admits.
func (p *Pool) serverFiles() pki.Files {
	dir := p.Lab.Servers()[0].Path("/var/lib/holdfast/pki")
	return pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
}

// Status returns the pool at a glance.
func (p *Pool) Status(ctx context.Context) (*pb.PoolView, error) {
	r, err := p.Pools.GetPool(ctx, &pb.GetPoolRequest{})
	return r.GetPool(), err
}

// Leader names the server that leads the pool; empty if none does.
func (p *Pool) Leader(ctx context.Context) (string, error) {
	v, err := p.Status(ctx)
	return v.GetLeader(), err
}

// VM returns one VM as the pool sees it.
func (p *Pool) VM(ctx context.Context, name string) (*pb.VMView, error) {
	r, err := p.VMs.GetVM(ctx, &pb.GetVMRequest{Vm: name})
	return r.GetVm(), err
}

// Server returns one server as the pool sees it.
func (p *Pool) Server(ctx context.Context, name string) (*pb.ServerView, error) {
	r, err := p.Servers.GetServer(ctx, &pb.GetServerRequest{Server: name})
	return r.GetServer(), err
}

// SetPool changes one setting of the pool.
func (p *Pool) SetPool(ctx context.Context, key, value string) error {
	_, err := p.Pools.UpdatePool(ctx, &pb.UpdatePoolRequest{Set: map[string]string{key: value}})
	if err != nil {
		return fmt.Errorf("set pool %s=%s: %w", key, value, err)
	}
	return nil
}

// SwitchHA switches the pool's half of HA, waiting until the pool allows it: its etcd must be able to lose a server.
func (p *Pool) SwitchHA(ctx context.Context, on bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return until(ctx, "pool HA is switched", func() (bool, string) {
		_, err := p.Pools.SetPoolHA(ctx, &pb.SetPoolHARequest{On: on})
		return err == nil, errText(err)
	})
}

// Is says whether a server is in a state.
func Is(s *pb.ServerView, state pb.ServerState) bool {
	for _, have := range s.GetStates() {
		if have == state {
			return true
		}
	}
	return false
}

// Describe tells how a VM stands in one line, for failures.
func Describe(v *pb.VMView) string {
	word := strings.ToLower(strings.TrimPrefix(v.GetStatus().String(), "VM_STATUS_"))
	c := v.GetClaim()
	phase := strings.ToLower(strings.TrimPrefix(c.GetPhase().String(), "CLAIM_PHASE_"))
	return fmt.Sprintf("%s is %s (%s); claim %s %s epoch %d armed %v", v.GetVm().GetId(), word, v.GetReason(), phase, c.GetServer(), c.GetEpoch(), c.GetArmed())
}
