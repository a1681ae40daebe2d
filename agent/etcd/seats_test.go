package etcd

import (
	"errors"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

func TestASeatStandsAsItsServerDoes(t *testing.T) {
	member := func(s *pool.Snapshot) { s.Members = s.Members.With("a", pool.Member{Server: "a"}) }
	fence := func(p pool.Proof) func(*pool.Snapshot) {
		return func(s *pool.Snapshot) { s.Fences = s.Fences.With("a", pool.Fence{Server: "a", Proof: p}) }
	}
	tests := []struct {
		name   string
		server pool.Server
		facts  []func(*pool.Snapshot)
		want   Standing
	}{
		{"a live member", pool.Server{}, []func(*pool.Snapshot){member}, StandingFit},
		{"back after a fence", pool.Server{}, []func(*pool.Snapshot){member, fence(pool.ProofPower)}, StandingFit},
		{"in maintenance", pool.Server{Maintenance: true}, []func(*pool.Snapshot){member}, StandingLeaving},
		{"being removed", pool.Server{Removing: true}, []func(*pool.Snapshot){member}, StandingLeaving},
		{"without a session", pool.Server{}, nil, StandingLost},
		{"fenced", pool.Server{}, []func(*pool.Snapshot){fence(pool.ProofGuard)}, StandingFenced},
		{"fencing without proof", pool.Server{}, []func(*pool.Snapshot){fence(pool.ProofNone)}, StandingLost},
		{"in maintenance and switched off", pool.Server{Maintenance: true}, nil, StandingAway},
		{"about to reboot", pool.Server{ShuttingDown: true}, []func(*pool.Snapshot){member}, StandingGoing},
		{"down for a reboot", pool.Server{ShuttingDown: true}, nil, StandingLost},
	}
	for _, tt := range tests {
		snap := &pool.Snapshot{}
		for _, f := range tt.facts {
			f(snap)
		}
		tt.server.ID = "a"
		if got := StandingOf(tt.server, snap); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestASeatReadsBackAndACorruptOneIsNamed(t *testing.T) {
	keys := store.NewKeys("prod")
	want := Seat{Name: "srv-1", PeerURL: "https://10.0.0.1:2380", ClientURL: "https://10.0.0.1:2379", Witness: true}
	op, err := PutSeat(keys, want, "inc")
	if err != nil {
		t.Fatal(err)
	}
	if op.Key != "/holdfast/v1/prod/seats/srv-1" {
		t.Errorf("key %s", op.Key)
	}
	got, err := readSeat(kv.KeyValue{Key: op.Key, Value: op.Value}, "srv-1")
	if err != nil || got != want {
		t.Errorf("read back %+v, %v", got, err)
	}
	for name, value := range map[string]string{"no JSON": "hello", "another's": `{"name":"srv-2","peerUrl":"https://x:1"}`, "no URL": `{"name":"srv-1"}`} {
		var corrupt *store.CorruptError
		if _, err := readSeat(kv.KeyValue{Key: op.Key, Value: []byte(value)}, "srv-1"); !errors.As(err, &corrupt) || corrupt.Key != op.Key {
			t.Errorf("%s: %v, want a CorruptError that names the key", name, err)
		}
	}
}
