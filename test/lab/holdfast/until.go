package holdfast

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// askEvery is how often the pool is asked while something is waited for.
const askEvery = 100 * time.Millisecond

// until asks done every so often until it says yes or ctx ends; what it said last goes into the error.
func until(ctx context.Context, what string, done func() (bool, string)) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	last := ""
	for {
		ok, now := done()
		if ok {
			return nil
		}
		if ctx.Err() == nil || last == "" {
			last = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w; last seen: %s", what, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// UntilVM waits until the pool says of a VM what is wanted.
func (p *Pool) UntilVM(ctx context.Context, name, what string, wanted func(*pb.VMView) bool) (*pb.VMView, error) {
	var v *pb.VMView
	err := until(ctx, name+" "+what, func() (bool, string) {
		var err error
		if v, err = p.VM(ctx, name); err != nil {
			return false, err.Error()
		}
		return wanted(v), Describe(v)
	})
	return v, err
}

// UntilStatus waits until the pool says that a VM has a status.
func (p *Pool) UntilStatus(ctx context.Context, name string, status pb.VMStatus) (*pb.VMView, error) {
	word := strings.ToLower(strings.TrimPrefix(status.String(), "VM_STATUS_"))
	return p.UntilVM(ctx, name, "is "+word, func(v *pb.VMView) bool { return v.GetStatus() == status })
}

// UntilServer waits until a server is in a state.
func (p *Pool) UntilServer(ctx context.Context, name string, state pb.ServerState) (*pb.ServerView, error) {
	var v *pb.ServerView
	word := strings.ToLower(strings.TrimPrefix(state.String(), "SERVER_STATE_"))
	err := until(ctx, name+" is "+word, func() (bool, string) {
		var err error
		if v, err = p.Server(ctx, name); err != nil {
			return false, err.Error()
		}
		return Is(v, state), fmt.Sprintf("%v %s", v.GetStates(), v.GetReason())
	})
	return v, err
}

// UntilUp waits until every server of the lab is a live member with a working guard, knows from its libvirt what it has, and
// the pool has a leader.
func (p *Pool) UntilUp(ctx context.Context) error {
	want := len(p.Lab.Servers())
	return until(ctx, fmt.Sprintf("all %d servers are up and one leads", want), func() (bool, string) {
		r, err := p.Servers.ListServers(ctx, &pb.ListServersRequest{})
		if err != nil {
			return false, err.Error()
		}
		up, led := 0, false
		var seen []string
		for _, s := range r.GetServers() {
			if Is(s, pb.ServerState_SERVER_STATE_UP) && s.GetMember().GetGuard() && s.GetMember().GetMemoryBytes() > 0 {
				up++
			}
			led = led || s.GetLeader()
			seen = append(seen, fmt.Sprintf("%s %v guard %v memory %d leader %v", s.GetServer().GetId(), s.GetStates(), s.GetMember().GetGuard(), s.GetMember().GetMemoryBytes(), s.GetLeader()))
		}
		return up == want && led, strings.Join(seen, "; ")
	})
}

// UntilTakes waits until a server lacks nothing that a VM needs. Just after its boot its own checks may have no answer yet.
func (p *Pool) UntilTakes(ctx context.Context, server, vm string) error {
	return until(ctx, server+" lacks nothing that "+vm+" needs", func() (bool, string) {
		s, err := p.Server(ctx, server)
		if err != nil {
			return false, err.Error()
		}
		for _, l := range s.GetMember().GetLacks() {
			if l.GetVm() == vm {
				return false, fmt.Sprint(l.GetMissing())
			}
		}
		return true, ""
	})
}

// UntilMembers waits until at least n servers are up and one of them leads.
func (p *Pool) UntilMembers(ctx context.Context, n int) error {
	return until(ctx, fmt.Sprintf("%d servers are up and one leads", n), func() (bool, string) {
		v, err := p.Status(ctx)
		if err != nil {
			return false, err.Error()
		}
		return !v.GetEtcdLost() && v.GetLeader() != "" && int(v.GetServersUp()) >= n,
			fmt.Sprintf("%d up, leader %q, etcd lost %v", v.GetServersUp(), v.GetLeader(), v.GetEtcdLost())
	})
}

// UntilNoneCorrupt waits until no key in etcd is reported as one that cannot be read.
func (p *Pool) UntilNoneCorrupt(ctx context.Context) error {
	return until(ctx, "no corrupt key is reported", func() (bool, string) {
		v, err := p.Status(ctx)
		return err == nil && len(v.GetCorruptKeys()) == 0, fmt.Sprint(v.GetCorruptKeys(), errText(err))
	})
}
