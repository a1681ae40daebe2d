package setup

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Access returns how this server's agent reaches the pool's etcd: the embedded members as they were last known, or
// the external ones. id is the server's identity.
func Access(c config.Config, id *pki.Store) (etcd.Access, error) {
	if c.Etcd.Mode == config.EtcdExternal {
		return ExternalAccess(c.Etcd)
	}
	endpoints, err := etcd.LoadEndpoints(c.EtcdDir())
	if err != nil {
		return etcd.Access{}, err
	}
	if len(endpoints) == 0 {
		own, err := etcd.FromSettings(c)
		if err != nil {
			return etcd.Access{}, err
		}
		endpoints = []string{own.ClientURL}
	}
	return etcd.Access{Endpoints: endpoints, TLS: id.Client(pki.ServerHost)}, nil
}

// ExternalAccess reads what an external etcd needs.
func ExternalAccess(e config.Etcd) (etcd.Access, error) {
	a := etcd.Access{Endpoints: e.Endpoints, Username: e.Username}
	password, err := readOptional(e.PasswordFile)
	if err != nil {
		return a, err
	}
	a.Password = string(bytes.TrimRight(password, "\r\n"))
	if !strings.HasPrefix(e.Endpoints[0], "https://") {
		return a, nil
	}
	a.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // somebody else's etcd may not speak 1.3
	ca, err := readOptional(e.CA)
	if err != nil {
		return a, err
	}
	if ca != nil {
		a.TLS.RootCAs = x509.NewCertPool()
		if !a.TLS.RootCAs.AppendCertsFromPEM(ca) {
			return a, fmt.Errorf("etcd.ca %s holds no certificate: %w", e.CA, pool.ErrInvalid)
		}
	}
	if e.Cert != "" {
		pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return a, fmt.Errorf("etcd.cert and etcd.key: %w: %w", err, pool.ErrInvalid)
		}
		a.TLS.Certificates = []tls.Certificate{pair}
	}
	return a, nil
}

// IsOtherEtcd reports whether an error of CheckPool says that etcd holds other data than this server's life of the pool.
func IsOtherEtcd(err error) bool {
	var r *pool.Refusal
	return errors.As(err, &r) && r.Code == otherEtcd
}

// otherEtcd is the reason of such a refusal.
const otherEtcd = "OTHER_ETCD"

// CheckPool refuses an etcd that does not hold the pool that this server was set up in: endpoints that lead to
// another pool's etcd, one that was emptied, or one that was made anew under the same name.
func CheckPool(ctx context.Context, edge kv.Store, o Origin) error {
	c, ok, err := store.New(edge, store.NewKeys(o.Pool)).ReadConfig(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read the pool's policy: %w", err)
	case !ok:
		return pool.Refuse("OTHER_ETCD", "check etcd.endpoints; if etcd lost its data, rebuild it from what the servers hold",
			"this etcd holds no pool %s", o.Pool)
	case c.Incarnation != o.Incarnation:
		return pool.Refuse("OTHER_ETCD", "if the pool was made anew, remove this server's state and join it again",
			"this etcd holds another life of pool %s (%s, this server belongs to %s)", o.Pool, c.Incarnation, o.Incarnation)
	}
	return nil
}
