package contexts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// LoginWish says how to log in.
type LoginWish struct {
	// Token as an admin was given it.
	Token string
	// Name of the context to write; empty: the pool's name.
	Name string
	// Label is shown wherever something is to be changed; empty: none, or the one there is.
	Label string
	// File is the operator's file; empty means Path.
	File   string
	Getenv func(string) string
	Now    func() time.Time
}

// LoggedIn says what a login gave.
type LoggedIn struct {
	Context, Pool, Name, Role string
	// File is the operator's file that has the context now.
	File    string
	Expires time.Time
}

// Login makes a key, has the pool that made the token certify it, and writes the context with which the certificate is
// used. The key never leaves this machine. It can be repeated with the same token after a lost answer. Errors:
// pool.ErrInvalid for a token that is none, pki.ErrWrongCA, or the pool's own.
func Login(ctx context.Context, w LoginWish) (LoggedIn, error) {
	token, err := pki.ParseToken(w.Token)
	if err != nil {
		return LoggedIn{}, err
	}
	if !token.Login() {
		return LoggedIn{}, fmt.Errorf("this token admits a machine, with `holdfast-agent join`; a login token is made with `holdfast identity invite NAME --role ROLE`: %w", pool.ErrInvalid)
	}
	if w.File == "" {
		w.File = Path(w.Getenv)
	}
	if w.Name == "" {
		w.Name = token.Pool
	}
	if err := pool.CheckName("context", w.Name); err != nil {
		return LoggedIn{}, err
	}
	dir := filepath.Join(filepath.Dir(w.File), w.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return LoggedIn{}, fmt.Errorf("make the context's folder: %w", err)
	}
	waiting := filepath.Join(dir, ".login-"+token.ID+".key")
	key, csr, err := waitingKey(waiting)
	if err != nil {
		return LoggedIn{}, err
	}
	resp, err := askLogin(ctx, token, csr)
	if err != nil {
		if !token.Expires.IsZero() && w.Now().After(token.Expires) {
			err = fmt.Errorf("%w (the token expired at %s)", err, token.Expires.Format("2006-01-02 15:04:05 MST"))
		}
		return LoggedIn{}, err
	}
	leaf, err := checkLogin(resp, key, token)
	if err != nil {
		return LoggedIn{}, fmt.Errorf("the pool's answer: %w", err)
	}
	c := Context{Name: w.Name, Agents: resp.GetServers(), CA: w.Name + "/ca.crt", Cert: w.Name + "/" + token.Name + ".crt", Key: w.Name + "/" + token.Name + ".key", Label: w.Label}
	base := filepath.Dir(w.File)
	files := pki.Files{CA: filepath.Join(base, c.CA), Cert: filepath.Join(base, c.Cert), Key: filepath.Join(base, c.Key)}
	if err := pki.Save(files, resp.GetCa(), pki.Pair{Cert: resp.GetCertificate(), Key: key}); err != nil {
		return LoggedIn{}, err
	}
	if err := put(w.File, c); err != nil {
		return LoggedIn{}, err
	}
	if err := os.Remove(waiting); err != nil {
		return LoggedIn{}, fmt.Errorf("remove the key that waited for the answer: %w", err)
	}
	return LoggedIn{Context: w.Name, Pool: resp.GetPool(), Name: token.Name, Role: string(token.Role), File: w.File, Expires: leaf}, nil
}

// waitingKey returns the key of an earlier attempt with the same token, or a new one, and the request to sign it.
func waitingKey(path string) (key, csr []byte, err error) {
	if key, err = os.ReadFile(path); err == nil {
		if csr, err = pki.RequestFor(key); err == nil {
			return key, csr, nil
		}
	}
	if csr, key, err = pki.NewRequest(); err != nil {
		return nil, nil, err
	}
	return key, csr, statefile.Replace(path, key, 0o600)
}

// askLogin calls the first of the token's agents that answers and belongs to the token's CA.
func askLogin(ctx context.Context, t pki.Token, csr []byte) (*pb.LoginResponse, error) {
	client, err := rpc.Dial(rpc.Target{Agents: t.Servers, TLS: pki.Pinned(t.Pin)}, rpc.Limits{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // answered or given up
	resp, err := pb.NewJoinServiceClient(client).Login(ctx, &pb.LoginRequest{TokenId: t.ID, Secret: t.Secret, Csr: csr})
	if errors.Is(err, pool.ErrOutcomeUnknown) {
		return nil, fmt.Errorf("%w; run the same login again: it takes up where this one was cut off", err)
	}
	return resp, err
}

// checkLogin makes sure that the certificate is ours, of the pinned CA, and says what the token promised.
func checkLogin(r *pb.LoginResponse, key []byte, t pki.Token) (expires time.Time, err error) {
	ca, err := pki.ParseCert(r.GetCa())
	if err != nil {
		return expires, err
	}
	if pki.PinOf(ca) != t.Pin {
		return expires, pki.ErrWrongCA
	}
	pair, err := tls.X509KeyPair(r.GetCertificate(), key)
	if err != nil {
		return expires, fmt.Errorf("its certificate is not for our key: %w: %w", err, pool.ErrInvalid)
	}
	if err := pair.Leaf.CheckSignatureFrom(ca); err != nil {
		return expires, fmt.Errorf("its certificate: %w: %w", err, pool.ErrInvalid)
	}
	id, err := pki.Of(pair.Leaf)
	if err != nil {
		return expires, err
	}
	if id.Name != t.Name || id.Role != t.Role || id.Pool != t.Pool {
		return expires, fmt.Errorf("its certificate is for %v of pool %s: %w", id, id.Pool, pool.ErrInvalid)
	}
	return id.Expires, nil
}

// put writes a context into the operator's file, in place of one of the same name; what else is there stays, comments
// too.
func put(path string, c Context) error {
	data, err := os.ReadFile(path)
	if missing(err) {
		if data, err = yaml.Marshal(File{Default: c.Name, Contexts: []Context{c}}); err != nil {
			return fmt.Errorf("encode contexts: %w", err)
		}
		return statefile.Replace(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("read contexts: %w", err)
	}
	if _, err := Load(path); err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	list := child(doc.Content[0], "contexts")
	if list == nil || list.Kind != yaml.SequenceNode {
		return fmt.Errorf("%s has no contexts: %w", path, pool.ErrInvalid)
	}
	i, old := find(list, c.Name)
	if c.Label == "" {
		c.Label = old.Label
	}
	c.ReadOnly = old.ReadOnly
	var entry yaml.Node
	if err := entry.Encode(c); err != nil {
		return fmt.Errorf("encode context: %w", err)
	}
	if i < 0 {
		list.Content = append(list.Content, &entry)
		list.Style = 0
	} else {
		list.Content[i] = &entry
	}
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	var check File
	if err := config.Strict(out, &check); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return statefile.Replace(path, out, 0o600)
}

// child is the value of a key of a mapping; nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// find returns where a context of that name is in the list, -1 for nowhere, and the context.
func find(list *yaml.Node, name string) (int, Context) {
	for i, n := range list.Content {
		var c Context
		if n.Decode(&c) == nil && c.Name == name {
			return i, c
		}
	}
	return -1, Context{}
}

// Renew gives the certificate of a context a successor, with a new key. name "" means the default context. The old one
// is good until it ends, so nothing that uses it is interrupted.
func Renew(ctx context.Context, name, file string, getenv func(string) string) (LoggedIn, error) {
	if file == "" {
		file = Path(getenv)
	}
	f, err := Load(file)
	if err != nil {
		return LoggedIn{}, err
	}
	c, ok, err := f.named(name)
	if err != nil {
		return LoggedIn{}, err
	}
	if !ok || c.CA == "" {
		return LoggedIn{}, fmt.Errorf("there is no context with a certificate in %s; log in with a token: %w", file, pool.ErrInvalid)
	}
	files := pki.Files{CA: c.CA, Cert: c.Cert, Key: c.Key}
	store, err := pki.Open(files)
	if err != nil {
		return LoggedIn{}, err
	}
	csr, key, err := pki.NewRequest()
	if err != nil {
		return LoggedIn{}, err
	}
	client, err := rpc.Dial(rpc.Target{Agents: c.Agents, TLS: store.Client(pki.ServerHost)}, rpc.Limits{})
	if err != nil {
		return LoggedIn{}, err
	}
	defer func() { _ = client.Close() }() // answered or given up
	resp, err := pb.NewIdentityServiceClient(client).RenewCertificate(ctx, &pb.RenewCertificateRequest{Csr: csr})
	if err != nil {
		return LoggedIn{}, err
	}
	pair, err := tls.X509KeyPair(resp.GetCertificate(), key)
	if err != nil {
		return LoggedIn{}, fmt.Errorf("the pool's answer: its certificate is not for our key: %w: %w", err, pool.ErrInvalid)
	}
	id, err := pki.Of(pair.Leaf)
	if err != nil {
		return LoggedIn{}, err
	}
	if err := pki.Save(files, resp.GetCa(), pki.Pair{Cert: resp.GetCertificate(), Key: key}); err != nil {
		return LoggedIn{}, err
	}
	return LoggedIn{Context: c.Name, Pool: id.Pool, Name: id.Name, Role: string(id.Role), File: file, Expires: id.Expires}, nil
}
