package setup

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// untouched fails the test if anything but a key kept for a repeated join was left on the machine.
func untouched(t *testing.T, m Machine) {
	t.Helper()
	if exist(m.ConfigPath) || exist(m.clientPath()) {
		t.Error("settings were written")
	}
	entries, err := os.ReadDir(m.Settings.StateDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(m.keyFile()) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestWhatCannotJoinIsRefusedWithTheReasonAndChangesNothing(t *testing.T) {
	a := found(t, "srv-1")
	stranger, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(m *Machine, o *JoinOptions, tok *Token)
		kind   error
		want   []string
	}{
		{"a duplicate name", func(m *Machine, _ *JoinOptions, _ *Token) { m.Settings.Server = "srv-1" },
			pool.ErrExists, []string{"srv-1", "--name"}},
		{"a duplicate host UUID", func(m *Machine, _ *JoinOptions, _ *Token) { m.HostUUID = strings.ToUpper(a.m.HostUUID) },
			pool.ErrExists, []string{"srv-1", "host UUID", "libvirtd.conf"}},
		{"a duplicate address", func(m *Machine, _ *JoinOptions, _ *Token) { m.Settings.Address = a.settings.Address },
			pool.ErrExists, []string{"srv-1", "--address"}},
		{"etcd ports of another", func(m *Machine, _ *JoinOptions, _ *Token) { m.Settings.Etcd.PeerPort = a.settings.Etcd.PeerPort },
			pool.ErrExists, []string{"srv-1", "vote"}},
		{"a name with control characters", func(m *Machine, _ *JoinOptions, _ *Token) { m.Settings.Server = "srv\x1b[2J" },
			pool.ErrInvalid, []string{"letters, digits"}},
		{"an agent that is too old", func(_ *Machine, o *JoinOptions, _ *Token) { o.Protocol = -1 },
			pool.ErrRefused, []string{"protocol -1", "upgrade"}},
		{"a wrong secret", func(_ *Machine, _ *JoinOptions, tok *Token) { tok.Secret = "guess" },
			pool.ErrRefused, []string{"no such token", "token create"}},
		{"an unknown token", func(_ *Machine, _ *JoinOptions, tok *Token) { tok.ID = "0123" },
			pool.ErrRefused, []string{"no such token"}},
		{"an expired token", func(_ *Machine, _ *JoinOptions, tok *Token) {
			entry, _, err := a.edge.Get(t.Context(), a.store.Keys().Token(tok.ID))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.edge.Revoke(t.Context(), entry.Lease); err != nil {
				t.Fatal(err) // as when its time is over
			}
			tok.Expires = time.Now().Add(-time.Minute)
		}, pool.ErrRefused, []string{"has expired", "token expired at", "token create"}},
		{"another pool's CA", func(_ *Machine, _ *JoinOptions, tok *Token) { tok.Pin = stranger.Pin() },
			pki.ErrWrongCA, []string{"not of the expected pool", a.settings.Address}},
		{"nobody there", func(_ *Machine, _ *JoinOptions, tok *Token) { tok.Servers = []string{"127.0.0.1:1"} },
			pool.ErrUnavailable, []string{"127.0.0.1:1"}},
	}
	before := keysOf(t, a)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, tok := newMachine(t, "srv-2"), a.token(0)
			o := JoinOptions{}
			tt.change(&m, &o, &tok)
			o.Machine, o.Token = m, tok.String()
			_, err := Join(t.Context(), o)
			if !errors.Is(err, tt.kind) {
				t.Fatalf("error %v, want %v", err, tt.kind)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("message %q lacks %q", err, w)
				}
			}
			untouched(t, m)
		})
	}
	if after := keysOf(t, a); after != before {
		t.Errorf("the pool changed: %s, before %s", after, before)
	}
}

// keysOf lists registrations and seats.
func keysOf(t *testing.T, n *node) string {
	t.Helper()
	all, _, err := n.edge.List(t.Context(), n.store.Keys().Prefix())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		if strings.Contains(e.Key, "/servers/") || strings.Contains(e.Key, "/seats/") {
			out = append(out, e.Key)
		}
	}
	return strings.Join(out, " ")
}

func TestATokenAdmitsOneMachineOnly(t *testing.T) {
	a := found(t, "srv-1")
	tok := a.token(0).String()
	if _, err := Join(t.Context(), JoinOptions{Machine: newMachine(t, "srv-2"), Token: tok}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"srv-3", "srv-2"} {
		m := newMachine(t, name)
		_, err := Join(t.Context(), JoinOptions{Machine: m, Token: tok})
		if !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "used by srv-2") {
			t.Errorf("%s on another machine: %v, want a refusal that names srv-2", name, err)
		}
		untouched(t, m)
	}
}

func TestAJoinWhoseAnswerWasLostCanBeRepeated(t *testing.T) {
	a := found(t, "srv-1")
	tok := a.token(0)
	m, err := JoinOptions{Machine: newMachine(t, "srv-2")}.machine(tok)
	if err != nil {
		t.Fatal(err)
	}
	o := JoinOptions{Machine: m, Token: tok.String()}
	_, csr, err := m.request()
	if err != nil {
		t.Fatal(err)
	}
	req, err := o.ask(m, tok, csr)
	if err != nil {
		t.Fatal(err)
	}
	// The pool registers the machine; the machine never hears of it.
	if _, err := call(t.Context(), tok, req, m); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), o); err != nil {
		t.Fatalf("the same join again: %v", err)
	}
	b := open(t, m)
	if exist(m.keyFile()) {
		t.Error("the key kept for a repetition is still there")
	}
	if id, err := b.id.Identity(); err != nil || id.Name != "srv-2" || id.Role != pki.RoleServer {
		t.Errorf("identity %v, %v", id, err)
	}
}

func TestASetUpMachineHasWhatItNeedsAndNothingForOthersEyes(t *testing.T) {
	a := found(t, "srv-1")
	b := a.admit("srv-2", false)
	w := a.admit("wit-1", true)
	for _, n := range []*node{a, b} {
		c, err := config.LoadClient(n.m.clientPath())
		if err != nil {
			t.Fatal(err)
		}
		root, err := pki.Open(pki.Files{CA: c.CA, Cert: c.Cert, Key: c.Key})
		if err != nil {
			t.Fatal(err)
		}
		id, err := root.Identity()
		if err != nil || id.Role != pki.RoleAdmin || !strings.Contains(id.Name, n.settings.Server) {
			t.Errorf("root's identity on %s: %v, %v", n.settings.Server, id, err)
		}
		if c.Servers[0] != n.settings.Address {
			t.Errorf("%s's command line asks %v first", n.settings.Server, c.Servers)
		}
		if _, err := pki.LoadAuthority(n.settings.TLS.CA, n.settings.TLS.CAKey); err != nil {
			t.Errorf("%s cannot admit others: %v", n.settings.Server, err)
		}
		secret(t, n.m.Settings.StateDir, filepath.Dir(n.m.ConfigPath))
	}
	if exist(w.settings.TLS.CAKey) || exist(w.m.clientPath()) {
		t.Error("the witness has the CA's key, or an admin's certificate")
	}
	if id, err := w.id.Identity(); err != nil || id.Role != pki.RoleWitness {
		t.Errorf("the witness's identity: %v, %v", id, err)
	}
	if o, err := LoadOrigin(b.settings.StateDir); err != nil || o.Incarnation != a.incarnation() {
		t.Errorf("origin %+v, %v", o, err)
	}
}

// secret fails the test if any file below the folders can be read by others.
func secret(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestAMachineIsSetUpOnceOnly(t *testing.T) {
	a := found(t, "srv-1")
	if _, err := Init(t.Context(), a.m); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "srv-1 of pool prod already") {
		t.Errorf("init again: %v", err)
	}
	if _, err := Join(t.Context(), JoinOptions{Machine: a.m, Token: a.token(0).String()}); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("join of a server of the pool: %v", err)
	}
	left := newMachine(t, "srv-9")
	if err := os.MkdirAll(left.Settings.PKIDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), left); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("init over an old state: %v", err)
	}
}

func TestAFailedInitLeavesNothing(t *testing.T) {
	for name, change := range map[string]func(m *Machine){
		"not our address":    func(m *Machine) { m.Settings.Address = "192.0.2.7:7400" },
		"impossible timings": func(m *Machine) { m.Settings.Etcd.Election = 3 * time.Second },
		"no pool name":       func(m *Machine) { m.Settings.Pool = "" },
		"settings' folder is a file": func(m *Machine) {
			if err := os.WriteFile(filepath.Dir(m.ConfigPath), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			m.ConfigPath = filepath.Join(filepath.Dir(m.ConfigPath), "config.yaml")
		},
		"no external etcd there": func(m *Machine) {
			m.Settings.Etcd = config.Etcd{Mode: config.EtcdExternal, Endpoints: []string{"http://127.0.0.1:1"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "srv-1")
			change(&m)
			if _, err := Init(t.Context(), m); err == nil {
				t.Fatal("it was made")
			}
			untouched(t, m)
		})
	}
}

func TestTokensLiveForAMinuteToAWeek(t *testing.T) {
	a := found(t, "srv-1")
	for _, ttl := range []time.Duration{time.Second, -time.Hour, 30 * 24 * time.Hour} {
		_, err := CreateToken(t.Context(), TokenOptions{Settings: a.settings, Store: a.edge, Leases: a.edge, Clock: clock.Real(), TTL: ttl})
		if !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%v: %v, want ErrInvalid", ttl, err)
		}
	}
	tok := a.token(time.Hour)
	entry, ok, err := a.edge.Get(t.Context(), a.store.Keys().Token(tok.ID))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if entry.Lease == 0 {
		t.Error("the token has no lease: it would never expire")
	}
	if strings.Contains(string(entry.Value), tok.Secret) {
		t.Error("the secret is in etcd")
	}
}

// Two machines with one token at the same moment: etcd lets one of them in.
func TestOfTwoJoinsAtOnceOneIsAdmitted(t *testing.T) {
	a := found(t, "srv-1")
	tok := a.token(0).String()
	results := make(chan error, 2)
	for _, name := range []string{"srv-2", "srv-3"} {
		m := newMachine(t, name)
		go func() {
			_, err := Join(context.WithoutCancel(t.Context()), JoinOptions{Machine: m, Token: tok})
			results <- err
		}()
	}
	admitted := 0
	for range 2 {
		if err := <-results; err == nil {
			admitted++
		} else if !errors.Is(err, pool.ErrRefused) && !errors.Is(err, pool.ErrStale) {
			t.Errorf("the other was told: %v", err)
		}
	}
	if admitted != 1 {
		t.Errorf("%d machines were admitted", admitted)
	}
}

// A member list that cannot be read must not make the service answer for a pool that it cannot see.
func TestAJoinIsRefusedWhileEtcdIsAway(t *testing.T) {
	a := found(t, "srv-1")
	tok := a.token(0)
	a.kill()
	svc := NewJoinService(ServiceOptions{Settings: a.settings, Store: store.New(a.edge, store.NewKeys("prod")), Clock: clock.Real(), Log: a.m.Log,
		Endpoints: func() []string { return nil }})
	csr, _, err := pki.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	_, err = svc.Join(t.Context(), &holdfastv1.JoinRequest{TokenId: tok.ID, Secret: tok.Secret, Server: "srv-2", Address: "127.0.0.1:7400", HostUuid: "x",
		Csr: csr, Protocol: Protocol, EtcdPeerUrl: "https://127.0.0.1:2380", EtcdClientUrl: "https://127.0.0.1:2379"})
	if !errors.Is(err, pool.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
}

// Operators' certificates are of the same CA as the servers'. They must open the API and never etcd, where they would
// be above every check.
func TestEtcdAdmitsMachinesOnly(t *testing.T) {
	a := found(t, "srv-1")
	c, err := config.LoadClient(a.m.clientPath())
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.Open(pki.Files{CA: c.CA, Cert: c.Cert, Key: c.Key})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadAuthority(a.settings.TLS.CA, a.settings.TLS.CAKey)
	if err != nil {
		t.Fatal(err)
	}
	access, err := Access(a.settings, a.id)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]*tls.Config{
		"an admin":         root.Client(pki.ServerHost),
		"nobody":           pki.Pinned(ca.Pin()),
		"an old client":    {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		"without any TLS ": nil,
	} {
		edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: tc})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if _, _, err := edge.Get(ctx, a.store.Keys().Config()); err == nil {
			t.Errorf("etcd admits %s", name)
		}
		cancel()
		edge.Close()
	}
}

func TestAPoolOnAnExternalEtcdHandsItsAccessOn(t *testing.T) {
	outside := found(t, "outside")
	access, err := Access(outside.settings, outside.id)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, "srv-1")
	m.Settings.Pool = "second"
	m.Settings.Etcd = config.Etcd{Mode: config.EtcdExternal, Endpoints: access.Endpoints, Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond,
		CA: outside.settings.TLS.CA, Cert: outside.settings.TLS.Cert, Key: outside.settings.TLS.Key}
	if _, err := Init(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	again := newMachine(t, "srv-7")
	again.Settings.Pool, again.Settings.Etcd = "second", m.Settings.Etcd
	if _, err := Init(t.Context(), again); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "pool second already") {
		t.Errorf("a second pool of that name: %v", err)
	}
	untouched(t, again)

	a := openExternal(t, m)
	a.serve()
	next := newMachine(t, "srv-2")
	if _, err := Join(t.Context(), JoinOptions{Machine: next, Token: a.token(0).String()}); err != nil {
		t.Fatal(err)
	}
	b := openExternal(t, next)
	if b.settings.Etcd.Election != 500*time.Millisecond || !strings.HasPrefix(b.settings.Etcd.Key, b.settings.StateDir) {
		t.Errorf("etcd of the second server: %+v", b.settings.Etcd)
	}
	snap, err := b.store.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := snap.Servers.Keys(); len(got) != 2 {
		t.Errorf("servers %v, as the second one sees them", got)
	}
	if _, err := Join(t.Context(), JoinOptions{Machine: newMachine(t, "wit-1"), Token: a.token(0).String(), Witness: true}); !errors.Is(err, pool.ErrRefused) {
		t.Errorf("a witness: %v, want a refusal", err)
	}
}

func openExternal(t *testing.T, m Machine) *node {
	t.Helper()
	n := open(t, m)
	access, err := ExternalAccess(n.settings.Etcd)
	if err != nil {
		t.Fatal(err)
	}
	edge, err := kvetcd.Open(kvetcd.Options{Endpoints: access.Endpoints, TLS: access.TLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { edge.Close() })
	n.edge, n.store = edge, store.New(edge, store.NewKeys(n.settings.Pool))
	return n
}

func TestAServersCertificatesAreRenewedWhileTheyAreUsed(t *testing.T) {
	a := found(t, "srv-1")
	before := a.id.Leaf().SerialNumber
	if renewed, err := Renew(a.settings, a.m.ConfigPath, time.Now()); err != nil || len(renewed) != 0 {
		t.Errorf("renewed %v on the first day, %v", renewed, err)
	}
	// TLS goes by the machine's clock, so an old certificate is put in place rather than a late time pretended.
	old, err := pki.LoadAuthority(a.settings.TLS.CA, a.settings.TLS.CAKey)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := old.Issue(pki.Request{Name: "srv-1", Role: pki.RoleServer, Hosts: []string{"127.0.0.1"}}, time.Now().Add(-20*24*time.Hour), 25*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	own, err := old.PEM()
	if err != nil {
		t.Fatal(err)
	}
	files := pki.Files{CA: a.settings.TLS.CA, Cert: a.settings.TLS.Cert, Key: a.settings.TLS.Key}
	if err := pki.Save(files, own.Cert, pair); err != nil {
		t.Fatal(err)
	}
	if renewed, err := Renew(a.settings, a.m.ConfigPath, time.Now()); err != nil || len(renewed) != 1 {
		t.Fatalf("renewed %v, %v", renewed, err)
	}
	if a.id.Leaf().SerialNumber.Cmp(before) == 0 || a.id.Err() != nil {
		t.Errorf("the running server did not take the new certificate up: %v", a.id.Err())
	}
	if !open(t, a.m).writes(t) {
		t.Error("etcd does not accept the renewed certificate")
	}
}
