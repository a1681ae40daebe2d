package store

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// read decodes the value of entry, checks that the record is the one that its key names, and completes it from the
// key. Its error is a *CorruptError.
func read[M proto.Message, V any](entry kv.KeyValue, m M, parse func(M) (V, error), finish func(*V) error) (V, error) {
	v, err := readRaw(entry, m, parse)
	if err == nil {
		err = finish(&v)
	}
	if err != nil {
		var none V
		return none, &CorruptError{Key: entry.Key, Reason: brief(err.Error())}
	}
	return v, nil
}

func readRaw[M proto.Message, V any](entry kv.KeyValue, m M, parse func(M) (V, error)) (V, error) {
	if err := decode(entry.Value, m); err != nil {
		var none V
		return none, err
	}
	return parse(m)
}

// named demands that a record carries the name in its key.
func named[S ~string](in S, name string) error {
	if string(in) != name {
		return fmt.Errorf("it names %q", brief(string(in)))
	}
	return nil
}

// namedWell also demands a name that the pool could have given.
func namedWell[S ~string](kind string, in S, name string) error {
	return errors.Join(named(in, name), pool.CheckName(kind, name))
}

func readConfig(entry kv.KeyValue) (pool.Config, error) {
	return read(entry, &pb.PoolConfig{}, wire.ParseConfig, func(c *pool.Config) error {
		c.Revision = entry.ModRevision
		return c.Validate()
	})
}

func readServer(entry kv.KeyValue, name string) (pool.Server, error) {
	return read(entry, &pb.Server{}, wire.ParseServer, func(s *pool.Server) error {
		s.Revision = entry.ModRevision
		return namedWell("server", s.ID, name)
	})
}

// readMember takes session and lease from the key: they are true whatever the value says. A member key without a
// lease would keep its server trusted for ever, so it is refused.
func readMember(entry kv.KeyValue, name string) (pool.Member, error) {
	return read(entry, &pb.Member{}, wire.ParseMember, func(m *pool.Member) error {
		m.Session, m.Revision = pool.Session(entry.CreateRevision), entry.ModRevision
		if entry.Lease == 0 {
			return fmt.Errorf("it hangs on no lease")
		}
		m.LeaseID = int64(entry.Lease)
		return namedWell("server", m.Server, name)
	})
}

func readRoster(entry kv.KeyValue) (pool.Roster, error) {
	return read(entry, &pb.Roster{}, wire.ParseRoster, func(r *pool.Roster) error {
		r.Revision = entry.ModRevision
		for s, standing := range r.Standing {
			if standing == pool.StandingUnspecified {
				return fmt.Errorf("server %q has no standing", brief(string(s)))
			}
		}
		return nil
	})
}

func readVM(entry kv.KeyValue, name string) (pool.VM, error) {
	return read(entry, &pb.VM{}, wire.ParseVM, func(v *pool.VM) error {
		v.Revision = entry.ModRevision
		return errors.Join(named(v.ID, name), v.Validate())
	})
}

func readClaim(entry kv.KeyValue, name string) (pool.Claim, error) {
	return read(entry, &pb.Claim{}, wire.ParseClaim, func(c *pool.Claim) error {
		c.Revision = entry.ModRevision
		return errors.Join(namedWell("vm", c.VM, name), c.Check())
	})
}

func readState(entry kv.KeyValue, name string) (pool.VMState, error) {
	return read(entry, &pb.VMState{}, wire.ParseVMState, func(s *pool.VMState) error {
		s.Revision = entry.ModRevision
		return namedWell("vm", s.VM, name)
	})
}

func readHome(entry kv.KeyValue, name string) (pool.Home, error) {
	return read(entry, &pb.Home{}, wire.ParseHome, func(h *pool.Home) error {
		h.Revision = entry.ModRevision
		return namedWell("vm", h.VM, name)
	})
}

func readFence(entry kv.KeyValue, name string) (pool.Fence, error) {
	return read(entry, &pb.Fence{}, wire.ParseFence, func(f *pool.Fence) error {
		f.Revision = entry.ModRevision
		return namedWell("server", f.Server, name)
	})
}

func readAlert(entry kv.KeyValue, name string) (pool.Alert, error) {
	return read(entry, &pb.Alert{}, wire.ParseAlert, func(a *pool.Alert) error {
		a.Revision = entry.ModRevision
		return named(a.ID, name)
	})
}

func readOperation(entry kv.KeyValue, name string) (pool.Operation, error) {
	return read(entry, &pb.Operation{}, wire.ParseOperation, func(o *pool.Operation) error {
		o.Revision = entry.ModRevision
		if o.Kind == pool.OperationUnspecified || o.Outcome == pool.OutcomeUnspecified {
			return fmt.Errorf("it has no kind or no outcome")
		}
		return named(o.ID, name)
	})
}

func readEvent(entry kv.KeyValue, name string) (pool.Event, error) {
	return read(entry, &pb.Event{}, wire.ParseEvent, func(e *pool.Event) error {
		e.Revision = entry.ModRevision
		return named(e.ID, name)
	})
}

func readIncident(entry kv.KeyValue, name string) (pool.Incident, error) {
	return read(entry, &pb.Incident{}, wire.ParseIncident, func(i *pool.Incident) error {
		i.Revision = entry.ModRevision
		return named(i.ID, name)
	})
}

func readRevocation(entry kv.KeyValue, name string) (pool.Revocation, error) {
	return read(entry, &pb.Revocation{}, wire.ParseRevocation, func(r *pool.Revocation) error {
		r.Revision = entry.ModRevision
		return named(r.ID, name)
	})
}

// readLeader takes a candidate from its election key: the value is its server's name.
func readLeader(entry kv.KeyValue) pool.Leader {
	l := pool.Leader{Server: pool.ServerID(entry.Value), Revision: entry.CreateRevision, Key: entry.Key}
	if pool.CheckName("server", string(l.Server)) != nil {
		l.Server = ""
	}
	return l
}
