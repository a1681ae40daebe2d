package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/statefile"
)

// stage is a set-up that is being made. Nothing of it is in place until commit.
type stage struct {
	m   Machine
	dir string
}

// newStage makes the folder in which everything is prepared, on the file system where it will stay.
func newStage(m Machine) (*stage, error) {
	if err := os.MkdirAll(m.Settings.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	dir, err := os.MkdirTemp(m.Settings.StateDir, ".setup-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the set-up: %w", err)
	}
	s := &stage{m: m, dir: dir}
	for _, d := range []string{s.pki(), s.etcd()} {
		if err := os.Mkdir(d, 0o700); err != nil {
			s.discard()
			return nil, fmt.Errorf("make a folder for the set-up: %w", err)
		}
	}
	return s, nil
}

func (s *stage) pki() string  { return filepath.Join(s.dir, "pki") }
func (s *stage) etcd() string { return filepath.Join(s.dir, "etcd") }

// discard removes what was prepared; after a commit there is nothing left but the empty folder.
func (s *stage) discard() { _ = os.RemoveAll(s.dir) }

// origin notes the pool's life.
func (s *stage) origin(o Origin) ([]byte, error) {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the pool's origin: %w", err)
	}
	return append(data, '\n'), nil
}

// file is one file to be written at the end.
type file struct {
	path string
	data []byte
}

// clientFiles are the command line's settings and root's certificate.
func (s *stage) clientFiles(a *pki.Authority, servers []string) ([]file, error) {
	dir := filepath.Dir(s.m.ConfigPath)
	pair, err := a.Issue(pki.Request{Name: rootOperator(s.m.Settings.Server), Role: pki.RoleAdmin}, s.m.Clock.Wall(), pki.ServerLife)
	if err != nil {
		return nil, err
	}
	ca, err := a.PEM()
	if err != nil {
		return nil, err
	}
	c := config.Client{Pool: s.m.Settings.Pool, Servers: servers, CA: "ca.crt", Cert: "admin.crt", Key: "admin.key"}
	yaml, err := c.Encode("# How root's command line on this server reaches the pool.")
	if err != nil {
		return nil, err
	}
	return []file{
		{filepath.Join(dir, "admin.key"), pair.Key}, {filepath.Join(dir, "admin.crt"), pair.Cert},
		{filepath.Join(dir, "ca.crt"), ca.Cert}, {s.m.clientPath(), yaml},
	}, nil
}

// commit moves everything into place, the settings last. If a step fails, the steps before it are undone.
func (s *stage) commit(o Origin, files []file) ([]string, error) {
	origin, err := s.origin(o)
	if err != nil {
		return nil, err
	}
	yaml, err := s.m.Settings.Encode("# Settings of this server. All keys and their defaults: man holdfast.yaml, or configs/config.yaml in the sources.")
	if err != nil {
		return nil, err
	}
	files = append(append([]file{{originFile(s.m.Settings.StateDir), origin}}, files...), file{s.m.ConfigPath, yaml})
	if err := os.MkdirAll(filepath.Dir(s.m.ConfigPath), 0o755); err != nil {
		return nil, fmt.Errorf("make the settings' folder: %w", err)
	}
	var undo []func() error
	fail := func(err error) ([]string, error) {
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
		return nil, err
	}
	for _, move := range [][2]string{{s.pki(), s.m.Settings.PKIDir()}, {s.etcd(), s.m.Settings.EtcdDir()}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			return fail(fmt.Errorf("put the set-up in place: %w", err))
		}
		undo = append(undo, func() error { return os.Rename(move[1], move[0]) })
	}
	if err := statefile.SyncDir(s.m.Settings.StateDir); err != nil {
		return fail(err)
	}
	var written []string
	for _, f := range files {
		if err := statefile.Replace(f.path, f.data, 0o600); err != nil {
			return fail(err)
		}
		undo = append(undo, func() error { return os.Remove(f.path) })
		written = append([]string{f.path}, written...)
	}
	return append(written, s.m.Settings.PKIDir(), s.m.Settings.EtcdDir()), nil
}
