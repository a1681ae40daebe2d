package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	// By is who asked, for the audit trail, and Why.
	By, Why string
	// Name and Role make it a login token, for one certificate of that operator; empty: it admits a machine.
	Name string
	Role pki.Role
	// Tag names the request, so that a repeated one makes no second token; "": this one makes a token in any case.
	Tag string
	// Audit is the call behind it; nil: none.
	Audit *pool.Audit
}

// check refuses what could never work and completes the rest.
func (o *TokenOptions) check() error {
	if o.TTL == 0 {
		o.TTL = DefaultTokenTTL
	}
	if o.TTL < minTokenTTL || o.TTL > maxTokenTTL {
		return pool.InField("ttl", fmt.Errorf("token life-time %v: must be from %v to %v: %w", o.TTL, minTokenTTL, maxTokenTTL, pool.ErrInvalid))
	}
	if o.Role == "" && o.Name == "" {
		return nil
	}
	if !o.Role.Operator() {
		return pool.InField("role", fmt.Errorf("role %q: use viewer, operator or admin: %w", o.Role, pool.ErrInvalid))
	}
	return pool.CheckName("name", o.Name)
}

// CreateToken makes a token with which one machine can join, or one operator log in, once, before it expires.
func CreateToken(ctx context.Context, o TokenOptions) (Token, error) {
	if err := o.check(); err != nil {
		return Token{}, err
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
	if o.Tag != "" {
		id = tagID(o.Tag)
	}
	wall := o.Clock.Wall()
	t := Token{Name: o.Name, Role: o.Role, Pool: o.Settings.Pool, Servers: servers, Pin: ca.Pin(), ID: id, Secret: secret, Expires: wall.Add(o.TTL).Truncate(time.Second)}
	record := &holdfastv1.JoinToken{
		Id: id, SecretHash: hash([]byte(secret)), Expires: timestamppb.New(t.Expires),
		Created: &holdfastv1.Mark{By: o.By, At: timestamppb.New(wall), Why: o.Why}, Name: o.Name, Role: string(o.Role),
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
	if t.Login() {
		event.Kind, event.Text = "LOGIN_TOKEN_CREATED", fmt.Sprintf("login token %s for %s as %s was made; it can be used for %v", id, o.Name, o.Role, o.TTL)
	}
	if o.Why != "" {
		event.Text += " (" + o.Why + ")"
	}
	event.Audit = withAfter(o.Audit, "tokens/"+id, map[string]string{"name": o.Name, "role": string(o.Role), "expires": t.Expires.UTC().Format(time.RFC3339)})
	txn := kv.Txn{If: []kv.Compare{kv.Absent(keys.Token(id))}, Then: []kv.Op{keys.PutToken(id, value, lease), keys.PutEvent(event)}}
	if _, err := st.Commit(ctx, txn); errors.Is(err, pool.ErrStale) && o.Tag != "" {
		return Token{}, fmt.Errorf("request ID %s made a token already, which is shown once; use a new ID for a new token: %w", o.Tag, pool.ErrExists)
	} else if err != nil {
		return Token{}, fmt.Errorf("write the token: %w", err)
	}
	return t, nil
}

// withAfter completes what an event says of the call behind it: key was not there before.
func withAfter(a *pool.Audit, key string, fields map[string]string) *pool.Audit {
	if a == nil {
		return nil
	}
	b := *a
	before, berr := json.Marshal(map[string]any{key: nil})
	after, aerr := json.Marshal(map[string]any{key: fields})
	if berr == nil && aerr == nil {
		b.Before, b.After = string(before), string(after)
	}
	return &b
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
