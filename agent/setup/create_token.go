package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Life-times of tokens. A long one is a key left under the mat.
const (
	DefaultTokenTTL = time.Hour
	minTokenTTL     = time.Minute
	maxTokenTTL     = 7 * 24 * time.Hour
)

// TokenOptions say what CreateToken needs.
type TokenOptions struct {
	// Settings of the server on which it is made.
	Settings config.Config
	Store    kv.Store
	Leases   kv.Leases
	Clock    clock.Clock
	// TTL is how long it can be used; 0 means DefaultTokenTTL.
	TTL time.Duration
	// By is who asked, for the audit trail.
	By string
}

// CreateToken makes a token with which one machine can join, once, before it expires.
func CreateToken(ctx context.Context, o TokenOptions) (Token, error) {
	if o.TTL == 0 {
		o.TTL = DefaultTokenTTL
	}
	if o.TTL < minTokenTTL || o.TTL > maxTokenTTL {
		return Token{}, fmt.Errorf("token life-time %v: must be from %v to %v: %w", o.TTL, minTokenTTL, maxTokenTTL, pool.ErrInvalid)
	}
	ca, err := pki.LoadAuthority(o.Settings.TLS.CA, o.Settings.TLS.CAKey)
	if err != nil {
		return Token{}, fmt.Errorf("only a server of the pool can make tokens: %w", err)
	}
	st := store.New(o.Store, store.NewKeys(o.Settings.Pool))
	servers, err := otherServers(ctx, st, o.Settings.Address)
	if err != nil {
		return Token{}, err
	}
	id, secret, err := newSecret()
	if err != nil {
		return Token{}, err
	}
	wall := o.Clock.Wall()
	t := Token{Pool: o.Settings.Pool, Servers: servers, Pin: ca.Pin(), ID: id, Secret: secret, Expires: wall.Add(o.TTL).Truncate(time.Second)}
	record := &holdfastv1.JoinToken{
		Id: id, SecretHash: hash([]byte(secret)), Expires: timestamppb.New(t.Expires),
		Created: &holdfastv1.Mark{By: o.By, At: timestamppb.New(wall)},
	}
	value, err := encodeRecord(record)
	if err != nil {
		return Token{}, err
	}
	lease, err := o.Leases.Grant(ctx, o.TTL.Truncate(time.Second))
	if err != nil {
		return Token{}, err
	}
	keys := st.Keys()
	event := pool.Event{ID: store.EventID(wall, pool.ServerID(o.Settings.Server), uint64(wall.Nanosecond())), At: wall, Kind: "TOKEN_CREATED",
		Server: pool.ServerID(o.Settings.Server), Actor: o.By, Text: fmt.Sprintf("join token %s was made; it can be used for %v", id, o.TTL)}
	txn := kv.Txn{If: []kv.Compare{kv.Absent(keys.Token(id))}, Then: []kv.Op{keys.PutToken(id, value, lease), keys.PutEvent(event)}}
	if _, err := st.Commit(ctx, txn); err != nil {
		return Token{}, fmt.Errorf("write the token: %w", err)
	}
	return t, nil
}

// otherServers lists where a joining machine can go: the maker first, then some others, should it be down by then.
func otherServers(ctx context.Context, st *store.Store, first string) ([]string, error) {
	snap, err := st.Load(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []string{first}
	for _, s := range snap.Servers.All() {
		if s.Address != first && s.Address != "" && len(out) < 3 {
			out = append(out, s.Address)
		}
	}
	return out, nil
}

// encodeRecord writes a message as it stands in etcd: protojson without its random spaces.
func encodeRecord(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b.Bytes(), nil
}
