package setup

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-ha/holdfast/agent/etcd"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Authority is this server's side of the exchange of the pool's CA. All that it knows is in its files, each of which is
// replaced as a whole, and each step may be repeated: a crash anywhere is continued by asking again. Safe for concurrent
// use, also by several processes.
type Authority struct {
	Settings config.Config
	// ConfigPath is where the settings are: root's certificate is beside them.
	ConfigPath string
	Clock      clock.Clock
}

// nextKey is where the key of the next CA waits until it is signed by.
func (a Authority) nextKey() string { return a.Settings.TLS.CAKey + ".next" }

// trustFiles are the lists of trusted CAs on this server.
func (a Authority) trustFiles() []string {
	return []string{a.Settings.TLS.CA, filepath.Join(filepath.Dir(a.ConfigPath), "ca.crt")}
}

// Change does one step, or none, and says how this server stands. Errors: a *pool.Refusal for a step that is not its
// turn, pool.ErrInvalid.
func (a Authority) Change(ctx context.Context, r *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error) {
	unlock, err := lockIdentity(a.Settings)
	if err != nil {
		return nil, err
	}
	defer unlock()
	switch r.GetStep() {
	case holdfastv1.AuthorityStep_AUTHORITY_STEP_UNSPECIFIED:
	case holdfastv1.AuthorityStep_AUTHORITY_STEP_TRUST:
		err = a.trust(r)
	case holdfastv1.AuthorityStep_AUTHORITY_STEP_RELOAD:
		err = etcd.AskReload(a.Settings.EtcdDir())
	case holdfastv1.AuthorityStep_AUTHORITY_STEP_ISSUE:
		err = a.issue(r)
	case holdfastv1.AuthorityStep_AUTHORITY_STEP_DROP:
		err = a.drop(r.GetAuthority())
	default:
		err = fmt.Errorf("this version of Holdfast knows no such step (%d): %w", r.GetStep(), pool.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return a.standing(r)
}

// standing reads how this server stands from its files.
func (a Authority) standing(r *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error) {
	ca, err := pki.LoadAuthority(a.Settings.TLS.CA, a.Settings.TLS.CAKey)
	if err != nil {
		return nil, err
	}
	own, err := ca.PEM()
	if err != nil {
		return nil, err
	}
	out := &holdfastv1.ChangeAuthorityResponse{Server: a.Settings.Server, Signs: ca.Pin(), Trusted: own.Cert}
	if out.Certificate, err = a.signedBy(ca.Trusted()); err != nil {
		return nil, err
	}
	if a.Settings.Etcd.Mode != config.EtcdExternal {
		if out.EtcdTrusted, out.EtcdRuns, err = etcd.Trusted(a.Settings.EtcdDir()); err != nil {
			return nil, err
		}
	}
	next, err := a.next(ca)
	if err != nil {
		return nil, err
	}
	if next != nil {
		out.Next = next.Pin()
	}
	for _, have := range []*pki.Authority{ca, next} {
		if have == nil || !r.GetWantKey() || have.Pin() != r.GetAuthority() {
			continue
		}
		pair, err := introduced(have).PEM()
		if err != nil {
			return nil, err
		}
		out.Ca, out.Key = pair.Cert, pair.Key
	}
	return out, nil
}

// signedBy returns the fingerprint of the CA that signed this server's own certificate.
func (a Authority) signedBy(cas []*x509.Certificate) (string, error) {
	data, err := os.ReadFile(a.Settings.TLS.Cert)
	if err != nil {
		return "", fmt.Errorf("read certificate: %w", err)
	}
	cert, err := pki.ParseCert(data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.Settings.TLS.Cert, err)
	}
	for _, c := range cas {
		if cert.CheckSignatureFrom(c) == nil {
			return pki.PinOf(c), nil
		}
	}
	return "", nil
}

// next returns the CA whose key waits here; nil if none does. A key without its certificate is of a step that was cut
// short: that begins anew.
func (a Authority) next(ca *pki.Authority) (*pki.Authority, error) {
	key, err := os.ReadFile(a.nextKey())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the next CA's key: %w", err)
	}
	all, err := ca.PEM()
	if err != nil {
		return nil, err
	}
	next, err := pki.ParseAuthority(all.Cert, key)
	if err != nil || next.Pin() == ca.Pin() {
		return nil, nil //nolint:nilerr // see above
	}
	return next, nil
}

// introduced is a CA with nothing beside it but how the one before introduces it.
func introduced(ca *pki.Authority) *pki.Authority {
	out := ca.Alone()
	for _, c := range ca.Trusted() {
		if pki.PinOf(c) == ca.Pin() {
			out = out.Trusting(c)
		}
	}
	return out
}

// asked reads the CA that a request brings.
func asked(r *holdfastv1.ChangeAuthorityRequest, poolName string) (*pki.Authority, error) {
	ca, err := pki.ParseAuthority(r.GetCa(), r.GetKey())
	if err != nil {
		return nil, err
	}
	if ca.Pin() != r.GetAuthority() || ca.Pool() != poolName || len(pki.Pins(ca.Trusted())) != 1 {
		return nil, fmt.Errorf("the next CA is not what the request says: %w", pool.ErrInvalid)
	}
	return ca, nil
}

// exchange reads the CA that this server has and the one that a request brings.
func (a Authority) exchange(r *holdfastv1.ChangeAuthorityRequest) (own, next *pki.Authority, err error) {
	if next, err = asked(r, a.Settings.Pool); err != nil {
		return nil, nil, err
	}
	own, err = pki.LoadAuthority(a.Settings.TLS.CA, a.Settings.TLS.CAKey)
	return own, next, err
}

// trust keeps the next CA's key and trusts its certificate. Of two exchanges begun at once the one whose fingerprint comes
// first goes on, on every server.
func (a Authority) trust(r *holdfastv1.ChangeAuthorityRequest) error {
	ca, want, err := a.exchange(r)
	if err != nil {
		return err
	}
	if ca.Pin() == want.Pin() {
		return nil // signed by already
	}
	waiting, err := a.next(ca)
	if err != nil {
		return err
	}
	introduced := pki.Introduced(ca.Trusted())
	switch {
	case slices.Contains(introduced, ca.Pin()):
		return pool.Refuse("AUTHORITY_CHANGES", "run holdfast-agent ca drop first", "%s still trusts the CA before the present one", a.Settings.Server)
	case waiting != nil && waiting.Pin() < want.Pin():
		return pool.Refuse("AUTHORITY_CHANGES", "run holdfast-agent ca rotate once more, on one server: it goes on with that one",
			"%s is being moved to another CA already (%s)", a.Settings.Server, waiting.Pin())
	}
	for _, other := range introduced {
		if other != want.Pin() {
			ca = ca.Without(other)
		}
	}
	if err := statefile.Replace(a.nextKey(), r.GetKey(), 0o600); err != nil {
		return err
	}
	return a.writeTrust(ca.Trusting(want.Trusted()...))
}

// writeTrust replaces the lists of trusted CAs, where they differ.
func (a Authority) writeTrust(ca *pki.Authority) error {
	own, err := ca.PEM()
	if err != nil {
		return err
	}
	for _, path := range a.trustFiles() {
		have, err := os.ReadFile(path)
		if err == nil && bytes.Equal(have, own.Cert) {
			continue
		}
		if err := statefile.Replace(path, own.Cert, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// issue signs by the next CA from now on, and renews this server's own certificates by it.
func (a Authority) issue(r *holdfastv1.ChangeAuthorityRequest) error {
	ca, want, err := a.exchange(r)
	if err != nil {
		return err
	}
	if !slices.Contains(pki.Pins(ca.Trusted()), want.Pin()) {
		return pool.Refuse("AUTHORITY_UNKNOWN", "run holdfast-agent ca rotate once more", "%s does not trust the next CA yet", a.Settings.Server)
	}
	if ca.Pin() != want.Pin() {
		if err := statefile.Replace(a.Settings.TLS.CAKey, r.GetKey(), 0o600); err != nil {
			return err
		}
	}
	if _, err := renew(a.Settings, a.ConfigPath, a.Clock.Wall()); err != nil {
		return err
	}
	if err := os.Remove(a.nextKey()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the next CA's key: %w", err)
	}
	return nil
}

// drop trusts nothing but the CA that signs.
func (a Authority) drop(pin string) error {
	ca, err := pki.LoadAuthority(a.Settings.TLS.CA, a.Settings.TLS.CAKey)
	if err != nil {
		return err
	}
	signed, err := a.signedBy(ca.Trusted())
	if err != nil {
		return err
	}
	if ca.Pin() != pin || signed != pin {
		return pool.Refuse("AUTHORITY_IN_USE", "run holdfast-agent ca rotate first", "%s still uses the old CA", a.Settings.Server)
	}
	return a.writeTrust(ca.Alone())
}
