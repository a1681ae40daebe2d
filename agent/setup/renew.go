package setup

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
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
