package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Pool is the pool's data as the API uses it.
type Pool interface {
	// Snapshot returns the newest snapshot; its revision is 0 before the first.
	Snapshot() *pool.Snapshot
	// Subscribe sets sig at each new snapshot until the returned function is called.
	Subscribe(sig clock.Signal) (cancel func())
	// Reachable reports whether etcd answered lately.
	Reachable() bool
	// Apply commits a change and waits until Snapshot shows it.
	Apply(ctx context.Context, c pool.Change) (pool.Revision, error)
}

// Inspection is what one server says about a VM's definition.
type Inspection struct {
	Server   pool.ServerID
	Missing  []string
	Rejected string
	// Unlocked names disks whose file system keeps no locks between servers.
	Unlocked []string
}

// FoundDomain is a libvirt domain found on a server.
type FoundDomain struct {
	Server     pool.ServerID
	XML        string
	UUID       string
	Running    bool
	Persistent bool
	Autostart  bool
	OwnedBy    string
}

// Servers asks the agents of other servers, this one included.
type Servers interface {
	// Inspect asks one server whether it can run a definition.
	Inspect(ctx context.Context, server pool.ServerID, xml string, needs []pool.Need) (Inspection, error)
	// Lookup asks one server for a libvirt domain; found is false if it has none of that name.
	Lookup(ctx context.Context, server pool.ServerID, name string) (d FoundDomain, found bool, err error)
}

// Definition is what a domain XML says, checked and cleaned.
type Definition struct {
	Name string
	UUID string
	// XML is without passwords; Passwords has them, by their place in it.
	XML         string
	Passwords   map[string]string
	MemoryBytes int64
	CPUs        int
	Needs       []pool.Need
	DiskLocks   bool
	Movable     bool
	// Notes say what was cleaned and what limits it.
	Notes []string
}

// Definitions reads domain XML. An error says what is wrong with it and what would be right.
type Definitions interface {
	Parse(xml string) (Definition, error)
}

// Authority makes certificates of people and scripts.
type Authority interface {
	// CreateLogin makes a token for one certificate of that name and role. tag names the request, so that a repeated one
	// makes no second token; "" makes one in any case. The token and its event are written together.
	CreateLogin(ctx context.Context, name, role string, ttl time.Duration, m pool.Mark, tag string) (token string, expires time.Time, err error)
	// Certify makes a certificate for the key of a signing request (PEM), and returns it with the trusted CAs and its
	// serial number. issued is when it shall count as made.
	Certify(csr []byte, name, role string, issued time.Time) (cert, ca []byte, serial string, err error)
}

// Config assembles a Server. All fields are required.
type Config struct {
	Server      pool.ServerID
	Version     string
	Clock       clock.Clock
	Pool        Pool
	Servers     Servers
	Definitions Definitions
	// CanLoseOne says whether the pool's etcd survives the loss of one server; the error says why not and what
	// would help. Consulted when HA is switched on.
	CanLoseOne func(ctx context.Context) error
	// GoesOn says whether etcd goes on if a server goes down now; the error says why it cannot either once the server's
	// vote has moved, and what would help. nil: it always does.
	GoesOn func(ctx context.Context, snap *pool.Snapshot, without pool.ServerID) (now bool, err error)
	// CheckTTL refuses a life-time of leases that this server's etcd or watchdog does not go with; nil: none does.
	CheckTTL func(ttl time.Duration) error
	// Authority makes certificates; nil: this pool has none (the demo).
	Authority Authority
	// Failsafe tells whether this server's VMs run on while etcd cannot be reached; nil: nobody knows.
	Failsafe func() (pb.Failsafe, string)
	// Figures hears how busy the members are; nil: nobody does.
	Figures Figures
	// Place makes canaries' disks, and Canaries reaches them; nil: no drill begins at this agent.
	Place    drill.Place
	Canaries Canaries
	Log      *slog.Logger
}

// Server implements the services. Create it with New.
type Server struct {
	pb.UnimplementedPoolServiceServer
	pb.UnimplementedServerServiceServer
	pb.UnimplementedVMServiceServer
	pb.UnimplementedOperationServiceServer
	pb.UnimplementedEventServiceServer
	pb.UnimplementedIdentityServiceServer
	pb.UnimplementedDrillServiceServer

	cfg Config

	mu      sync.Mutex
	counter int
}

// New returns a Server.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// snapshot returns the pool, or says that it is not known yet.
func (s *Server) snapshot() (*pool.Snapshot, error) {
	snap := s.cfg.Pool.Snapshot()
	if snap.Revision == 0 {
		return nil, fmt.Errorf("this agent has not read the pool from etcd yet; ask another, or wait: %w", pool.ErrUnavailable)
	}
	return snap, nil
}

// mark records the caller of ctx.
func (s *Server) mark(ctx context.Context, why string) (pool.Mark, error) {
	if len(why) > maxWhy {
		return pool.Mark{}, pool.InField("why", fmt.Errorf("why: %d bytes; at most %d: %w", len(why), maxWhy, pool.ErrInvalid))
	}
	return pool.Mark{By: rpc.IdentityFrom(ctx).Name, At: s.cfg.Clock.Wall(), Why: clean(why)}, nil
}

// maxWhy bounds the free text given with a request, in bytes.
const maxWhy = 500

// clean replaces control characters in free text.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, text)
}

// event builds an audit event for something an operator did.
func (s *Server) event(kind string, m pool.Mark, server pool.ServerID, vm pool.VMID, format string, args ...any) pool.Event {
	text := fmt.Sprintf(format, args...)
	if m.Why != "" {
		text += " (" + m.Why + ")"
	}
	return pool.Event{At: m.At, Kind: kind, Server: server, VM: vm, Actor: m.By, Text: text}
}

// operationID derives the ID: from the request ID if there is one, so that a repeated request finds its operation;
// else from this server, its clock and a counter.
func (s *Server) operationID(requestID string) pool.OperationID {
	seed := "request " + requestID
	if requestID == "" {
		s.mu.Lock()
		s.counter++
		seed = fmt.Sprintf("%s %d %d", s.cfg.Server, s.cfg.Clock.Wall().UnixNano(), s.counter)
		s.mu.Unlock()
	}
	sum := sha256.Sum256([]byte(seed))
	return pool.OperationID(hex.EncodeToString(sum[:6]))
}

// applyRetry commits what build makes of the newest snapshot, again if somebody else was faster.
func (s *Server) applyRetry(ctx context.Context, build func(*pool.Snapshot) (pool.Change, error)) error {
	var err error
	for range 5 {
		snap, serr := s.snapshot()
		if serr != nil {
			return serr
		}
		var c pool.Change
		c, err = build(snap)
		if err != nil {
			return err
		}
		if c.Empty() {
			return nil
		}
		if _, err = s.cfg.Pool.Apply(ctx, s.audited(ctx, snap, c)); !isStale(err) {
			return err
		}
		if err := s.cfg.Clock.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}
