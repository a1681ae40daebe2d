package wire

import (
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Config returns the message of the pool's policy, without its revision.
func Config(c pool.Config) *pb.PoolConfig {
	return &pb.PoolConfig{
		Name: text(c.Name), Incarnation: text(c.Incarnation),
		Ha: c.HA, HaMark: Mark(c.HAMark), Frozen: c.Frozen, FrozenMark: Mark(c.FrozenMark),
		LeaseTtl: span(c.LeaseTTL), ReturnHome: c.ReturnHome,
		Shutdown: pb.ShutdownPolicy(c.Shutdown), Tolerate: number(c.Tolerate), LockBarsFailover: c.LockBarsFailover,
		OnIsolation: pb.Isolation(c.OnIsolation), IsolationGrace: span(c.IsolationGrace),
		TrustGuardAlone: c.TrustGuardAlone, SuspectAfter: span(c.SuspectAfter), StopLimit: span(c.StopLimit),
		RestartGrace: span(c.RestartGrace), EventsKept: number(c.EventsKept), OperationsKept: number(c.OperationsKept),
		Migrations: number(c.Migrations), MigrationsPerServer: number(c.MigrationsPerServer), MigrateBandwidth: c.MigrateBandwidth,
		AutoConverge: c.AutoConverge, MigrateLimit: span(c.MigrateLimit), PowerOn: c.PowerOn,
	}
}

// ParseConfig is the reverse of Config; Revision stays 0. Errors are pool.ErrInvalid.
func ParseConfig(m *pb.PoolConfig) (pool.Config, error) {
	var p parser
	c := pool.Config{
		Name: m.GetName(), Incarnation: m.GetIncarnation(),
		HA: m.GetHa(), HAMark: p.mark("haMark", m.GetHaMark()),
		Frozen: m.GetFrozen(), FrozenMark: p.mark("frozenMark", m.GetFrozenMark()),
		LeaseTTL: p.duration("leaseTtl", m.GetLeaseTtl()), ReturnHome: m.GetReturnHome(),
		Shutdown: enum(&p, "shutdown", m.GetShutdown(), pool.ShutdownFreeze),
		Tolerate: int(m.GetTolerate()), LockBarsFailover: m.GetLockBarsFailover(),
		OnIsolation:     enum(&p, "onIsolation", m.GetOnIsolation(), pool.IsolationPause),
		IsolationGrace:  p.duration("isolationGrace", m.GetIsolationGrace()),
		TrustGuardAlone: m.GetTrustGuardAlone(),
		SuspectAfter:    p.duration("suspectAfter", m.GetSuspectAfter()),
		StopLimit:       p.duration("stopLimit", m.GetStopLimit()),
		RestartGrace:    p.duration("restartGrace", m.GetRestartGrace()),
		EventsKept:      int(m.GetEventsKept()), OperationsKept: int(m.GetOperationsKept()),
		Migrations: int(m.GetMigrations()), MigrationsPerServer: int(m.GetMigrationsPerServer()),
		MigrateBandwidth: m.GetMigrateBandwidth(), AutoConverge: m.GetAutoConverge(),
		MigrateLimit: p.duration("migrateLimit", m.GetMigrateLimit()), PowerOn: m.GetPowerOn(),
	}
	return c, p.err
}
