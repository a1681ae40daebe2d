package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// trust is which CAs the member that runs on a machine accepts: those that were in its file when it started.
type trust struct {
	Pins []string `json:"pins"`
}

func trustFile(dir string) string  { return filepath.Join(dir, "trust.json") }
func reloadFile(dir string) string { return filepath.Join(dir, "reload") }

// Trusted returns the fingerprints of the CAs that the member which runs with its data below dir accepts; runs is false
// if none does, as far as is known.
func Trusted(dir string) (pins []string, runs bool, err error) {
	raw, err := os.ReadFile(trustFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read whom etcd trusts: %w", err)
	}
	var t trust
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, false, fmt.Errorf("%s: %w: %w", trustFile(dir), err, pool.ErrInvalid)
	}
	return t.Pins, true, nil
}

// AskReload has the member below dir stop and start again, with the CAs that are in its file then. Trusted says when it
// has. No more than one member of a pool at a time should.
func AskReload(dir string) error {
	return statefile.Replace(reloadFile(dir), nil, 0o600)
}

// reloadAsked reports whether AskReload was called since this member started.
func (c Config) reloadAsked() bool {
	_, err := os.Lstat(reloadFile(c.Dir))
	return err == nil
}

// readTrust is called before a member starts: what it reads is what that member will accept, or less.
func (c Config) readTrust() (trust, error) {
	if err := os.Remove(reloadFile(c.Dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return trust{}, fmt.Errorf("start etcd: %w", err)
	}
	data, err := os.ReadFile(c.Identity.CA)
	if err != nil {
		return trust{}, fmt.Errorf("read whom etcd trusts: %w", err)
	}
	certs, err := pki.ParseChain(data)
	if err != nil {
		return trust{}, fmt.Errorf("%s: %w", c.Identity.CA, err)
	}
	return trust{Pins: pki.Pins(certs)}, nil
}

func (c Config) saveTrust(t trust) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode whom etcd trusts: %w", err)
	}
	return statefile.Replace(trustFile(c.Dir), append(data, '\n'), 0o600)
}

func (c Config) forgetTrust() error {
	if err := os.Remove(trustFile(c.Dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget whom etcd trusted: %w", err)
	}
	return nil
}

// AllAnswer returns nil if every member answers, and otherwise names those that do not.
func AllAnswer(members []Member) error {
	var silent []string
	for _, m := range members {
		if m.Started() && !m.Healthy {
			silent = append(silent, m.Name)
		}
	}
	if len(silent) > 0 {
		return fmt.Errorf("no answer from etcd on %s: %w", strings.Join(silent, ", "), pool.ErrUnavailable)
	}
	return nil
}
