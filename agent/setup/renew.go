package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
)

// renewEvery is how often certificates are looked at: often enough that a server that was off for months renews on
// its first day.
const renewEvery = 12 * time.Hour

// Renew exchanges this server's certificate, and root's on it, if they are due. It needs the CA's key and nothing
// else: no other server, no etcd. Running processes take the new files up by themselves.
func Renew(c config.Config, configPath string, now time.Time) (renewed []string, err error) {
	unlock, err := lockIdentity(c)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return renew(c, configPath, now)
}

// lockIdentity keeps everybody else on this server from changing its certificates, keys and trusted CAs until unlock is
// called. It waits for its turn, which is short.
func lockIdentity(c config.Config) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(c.TLS.CAKey), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock this server's certificates: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock this server's certificates: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func renew(c config.Config, configPath string, now time.Time) (renewed []string, err error) {
	ca, err := pki.LoadAuthority(c.TLS.CA, c.TLS.CAKey)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(configPath)
	for _, f := range []pki.Files{
		{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key},
		{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "admin.crt"), Key: filepath.Join(dir, "admin.key")},
	} {
		done, err := pki.Renew(f, ca, now)
		if err != nil {
			return renewed, fmt.Errorf("renew %s: %w", f.Cert, err)
		}
		if done {
			renewed = append(renewed, f.Cert)
		}
	}
	return renewed, nil
}

// KeepIdentity calls Renew twice a day until ctx ends. What goes wrong is logged and tried again.
func KeepIdentity(ctx context.Context, c config.Config, configPath string, clk clock.Clock, log *slog.Logger) error {
	for {
		renewed, err := Renew(c, configPath, clk.Wall())
		for _, f := range renewed {
			log.Info("certificate renewed", "file", f)
		}
		if err != nil {
			log.Warn("certificates", "err", err)
		}
		if err := clk.Sleep(ctx, renewEvery); err != nil {
			return err
		}
	}
}
