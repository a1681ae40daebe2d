package saved

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Format is the version of the documents that this build writes. It reads no later one.
const Format = 1

// State is a pool's persistent state at one revision.
type State struct {
	Pool, Incarnation string
	Revision          pool.Revision
	// Server saved it At, by its wall clock, running Version; for people.
	Server  pool.ServerID
	At      time.Time
	Version string
	// Voters are the machines that had a vote in the embedded etcd, sorted.
	Voters      []string
	Config      pool.Config
	Servers     pool.Table[pool.ServerID, pool.Server]
	VMs         pool.Table[pool.VMID, pool.VM]
	Claims      pool.Table[pool.VMID, pool.Claim]
	Homes       pool.Table[pool.VMID, pool.Home]
	Revocations pool.Table[pool.RevocationID, pool.Revocation]
	Incidents   pool.Table[pool.IncidentID, pool.Incident]
}

// Of takes the persistent part of a snapshot. What could not be read in etcd is in none: ok is false then, for a copy
// that lacks a record must not take the place of one that has it. It is false too for a snapshot without a policy.
func Of(s *pool.Snapshot) (st State, ok bool) {
	if s.Revision == 0 || s.Config.Revision == 0 || s.Corrupt.Len() > 0 {
		return State{}, false
	}
	return State{Pool: s.Config.Name, Incarnation: s.Config.Incarnation, Revision: s.Revision, Config: s.Config, Servers: s.Servers, VMs: s.VMs,
		Claims: s.Claims, Homes: s.Homes, Revocations: s.Revocations, Incidents: s.Incidents}, true
}

// Same reports whether two snapshots have the same persistent part, by what changed between them.
func Same(a, b *pool.Snapshot) bool {
	return a.Config.Revision == b.Config.Revision && unchanged(b.Servers, a.Servers) && unchanged(b.VMs, a.VMs) && unchanged(b.Claims, a.Claims) &&
		unchanged(b.Homes, a.Homes) && unchanged(b.Revocations, a.Revocations) && unchanged(b.Incidents, a.Incidents)
}

// Encode writes s as a document.
func Encode(s State) ([]byte, error) {
	m := &pb.SavedState{Format: Format, Pool: s.Pool, Incarnation: s.Incarnation, Revision: int64(s.Revision), Server: string(s.Server),
		SavedAt: timestamppb.New(s.At), Version: s.Version, Voters: s.Voters, Config: wire.Config(s.Config),
		Servers: records(s.Servers, wire.Server), Vms: records(s.VMs, wire.VM), Claims: records(s.Claims, wire.Claim),
		Homes: records(s.Homes, wire.Home), Revocations: records(s.Revocations, wire.Revocation), Incidents: records(s.Incidents, wire.Incident)}
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the pool's state: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, loose, "", " "); err != nil { // the same bytes in every build, and lines for a person
		return nil, fmt.Errorf("encode the pool's state: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// Decode reads a document and checks every record. Errors: pool.ErrInvalid. Fields that this version does not know are an
// error too: to leave one out could change what a record means.
func Decode(data []byte) (State, error) {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return State{}, fmt.Errorf("not a saved state of a pool: %w: %w", err, pool.ErrInvalid)
	}
	if head.Format != Format {
		return State{}, fmt.Errorf("it has format %d, this version reads %d: %w", head.Format, Format, pool.ErrInvalid)
	}
	var m pb.SavedState
	if err := protojson.Unmarshal(data, &m); err != nil {
		return State{}, fmt.Errorf("not a saved state of a pool: %w: %w", err, pool.ErrInvalid)
	}
	s := State{Pool: m.GetPool(), Incarnation: m.GetIncarnation(), Revision: pool.Revision(m.GetRevision()), Server: pool.ServerID(m.GetServer()),
		At: m.GetSavedAt().AsTime(), Version: m.GetVersion(), Voters: m.GetVoters()}
	if err := s.read(&m); err != nil {
		return State{}, fmt.Errorf("the saved state of pool %q cannot be used: %w: %w", s.Pool, err, pool.ErrInvalid)
	}
	return s, s.check()
}

func (s *State) read(m *pb.SavedState) (err error) {
	if s.Config, err = wire.ParseConfig(m.GetConfig()); err != nil {
		return err
	}
	if s.Servers, err = parse(m.GetServers(), wire.ParseServer, func(v pool.Server) pool.ServerID { return v.ID }); err != nil {
		return err
	}
	if s.VMs, err = parse(m.GetVms(), wire.ParseVM, func(v pool.VM) pool.VMID { return v.ID }); err != nil {
		return err
	}
	if s.Claims, err = parse(m.GetClaims(), wire.ParseClaim, func(v pool.Claim) pool.VMID { return v.VM }); err != nil {
		return err
	}
	if s.Homes, err = parse(m.GetHomes(), wire.ParseHome, func(v pool.Home) pool.VMID { return v.VM }); err != nil {
		return err
	}
	if s.Revocations, err = parse(m.GetRevocations(), wire.ParseRevocation, func(v pool.Revocation) pool.RevocationID { return v.ID }); err != nil {
		return err
	}
	s.Incidents, err = parse(m.GetIncidents(), wire.ParseIncident, func(v pool.Incident) pool.IncidentID { return v.ID })
	return err
}

// check refuses what no store of ours would hold.
func (s *State) check() error {
	bad := func(err error) error {
		return fmt.Errorf("the saved state of pool %q cannot be used: %w", s.Pool, err)
	}
	switch {
	case s.Config.Name != s.Pool || s.Config.Incarnation != s.Incarnation || s.Incarnation == "" || s.Revision <= 0:
		return bad(fmt.Errorf("it does not say whose it is: %w", pool.ErrInvalid))
	case pool.CheckName("pool", s.Pool) != nil:
		return bad(pool.CheckName("pool", s.Pool))
	case s.Config.Validate() != nil:
		return bad(s.Config.Validate())
	}
	for id := range s.Servers.All() {
		if err := pool.CheckName("server", string(id)); err != nil {
			return bad(err)
		}
	}
	for _, v := range s.VMs.All() {
		if err := v.Validate(); err != nil {
			return bad(err)
		}
	}
	for id, c := range s.Claims.All() {
		if err := c.Check(); err != nil {
			return bad(err)
		}
		if !s.VMs.Has(id) {
			return bad(fmt.Errorf("it has a claim of VM %q, which is not registered: %w", id, pool.ErrInvalid))
		}
	}
	return nil
}

// Newest returns the index of the newest of states; -1 without any of these lives. lives are incarnations, newest first:
// a later life comes before a higher revision.
func Newest(states []State, lives []string) int {
	best, rank := -1, len(lives)
	for i, s := range states {
		r := slices.Index(lives, s.Incarnation)
		if r >= 0 && (r < rank || r == rank && s.Revision > states[best].Revision) {
			best, rank = i, r
		}
	}
	return best
}

func records[K interface{ ~string }, V, M any](t pool.Table[K, V], to func(V) M) []M {
	var out []M
	for _, v := range t.All() {
		out = append(out, to(v))
	}
	return out
}

func parse[M any, V any, K ~string](list []M, from func(M) (V, error), key func(V) K) (pool.Table[K, V], error) {
	all := map[K]V{}
	for _, m := range list {
		v, err := from(m)
		if err != nil {
			return pool.Table[K, V]{}, err
		}
		if _, twice := all[key(v)]; twice || key(v) == "" {
			return pool.Table[K, V]{}, fmt.Errorf("%q stands in it twice, or has no name", key(v))
		}
		all[key(v)] = v
	}
	return pool.NewTable(all), nil
}

func unchanged[K ~string, V any](a, b pool.Table[K, V]) bool {
	for range a.ChangedSince(b) {
		return false
	}
	return a.Len() == b.Len()
}
