package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/drill"
	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/agent/fence"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/logind"
	"github.com/holdfast-ha/holdfast/agent/mesh"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/lease"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/pkg/version"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// leaveLimit bounds a planned stop: resigning and handing the session over.
const leaveLimit = 5 * time.Second

// runAgent wires one real agent from the settings at path and runs it until ctx ends. Then it leaves in good order: VMs run on.
func runAgent(ctx context.Context, c config.Config, path string, log *slog.Logger) error {
	id, err := pki.Open(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key})
	if err != nil {
		return err
	}
	db, err := openEtcd(ctx, c, id, log)
	if err != nil {
		return err
	}
	defer db.close()
	origin, err := setup.LoadOrigin(c.StateDir)
	if err != nil {
		return err
	}
	boot, err := lease.BootID()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		return fmt.Errorf("make run_dir: %w", err)
	}
	clk := clock.Real()
	hv := virt.New(virt.Options{Clock: clk, Log: log, URI: c.Libvirt, StoragePaths: storagePaths(c), MonitorDir: monitorDir(c.Guard.MonitorDir), UnsafeMigration: c.Migration.Unsafe})
	var agent *app.Agent
	figures := newExport(c, id, clk, log, func() *app.Agent { return agent })
	h := host{virt: hv, agent: func() *app.Agent { return agent }}
	peers := mesh.NewPeers(pool.ServerID(c.Server), h, func() *pool.Snapshot { return agent.Directory() },
		func(s pool.ServerID) *tls.Config { return id.Client(string(s)) })
	defer peers.Close()
	ends := newTunnels(hv, clk, log)
	machine := logind.New(logind.Options{Clock: clk, Log: log})
	agent, err = app.New(app.Config{Pool: c.Pool, Server: pool.ServerID(c.Server), Version: version.Version, Incarnation: origin.Incarnation, Left: origin.Earlier}, app.Edges{
		Clock: clk, Store: figures.store(db.kv), Leases: figures.leases(db.kv), LeaseState: lease.FileState{Path: filepath.Join(c.RunDir, "session.json"), BootID: boot},
		FormerSession: lease.FormerState{Path: filepath.Join(c.StateDir, "handed-over.json"), BootID: boot, HostUUID: lease.FirmwareUUID()},
		Hypervisor:    hv, Needs: hv, Drifts: hv, Capacity: hv.Capacity, Guard: guard.NewClient(c.Guard.Socket, clk), Fencer: fence.New(log), Servers: peers, Reach: peers, Peers: mesh.NewMoves(peers, mesh.NewWays(peers, ends)),
		Load:    load{hv},
		Figures: peers,
		Drill:   drillPlace{files: drill.Files{Folders: storagePaths(c), Machine: thisMachine()}, virt: hv}, Canaries: peers,
		Machine:     machine,
		Authority:   &setup.Identities{ServiceOptions: setup.ServiceOptions{Settings: c, Store: store.New(db.kv, store.NewKeys(c.Pool)), Clock: clk, Log: log}, Leases: db.kv},
		Definitions: definitions{}, Passwords: definitions{}, NoPause: hv.NoPause, CanLoseOne: db.canLoseOne, GoesOn: db.goesOn, Voter: db.voter, LeaderWork: db.keepVotes, Log: log,
		Asker: peers, Roster: failsafe.FileMemory{Path: filepath.Join(c.RunDir, "roster.json"), BootID: boot},
		Ready:    func(ctx context.Context) error { return db.check(ctx, origin) },
		CheckTTL: func(ttl time.Duration) error { return errors.Join(c.CheckTTL(ttl), c.CheckWatchdog(ttl)) },
	})
	if err != nil {
		return err
	}
	entrance := rpc.NewGate(rpc.ServeLimits{}, func(id pki.Identity) bool {
		return agent.Snapshot().Revokes(id.Serial, id.Role.Machine(), id.Name, id.Issued)
	})
	srv := grpc.NewServer(append(figures.serverOptions(), entrance.Options(id.Server(true))...)...)
	registerServices(srv, agent)
	answers := mesh.NewServer(pool.ServerID(c.Server), version.Version, func() string { return agent.Snapshot().Config.Incarnation }, h)
	answers.UsePromises(agent)
	answers.UseFigures(agent.Meter())
	answers.UseCanary(agent)
	peers.UseCanary(agent)
	answers.UseTunnels(ends, gate{pool.ServerID(c.Server), h.agent})
	life := newLife(c, origin, hv, agent, id, clk, log)
	answers.UseLife(life)
	answers.UseAuthority(setup.Authority{Settings: c, ConfigPath: path, Clock: clk})
	pb.RegisterMeshServiceServer(srv, answers)
	pb.RegisterJoinServiceServer(srv, setup.NewJoinService(setup.ServiceOptions{Settings: c, Store: agent.Store(), Clock: clk, Log: log, Endpoints: db.endpoints}))
	return serveAndRun(ctx, c.Listen, entrance, srv, agent, []runner{hv.Run, db.run, machine.Run, figures.run, life.run, life.keepSeat, newSaver(c, agent, db, clk, log).Run,
		func(ctx context.Context) error { return keepRevocations(ctx, agent, entrance, clk) },
		func(ctx context.Context) error { return setup.KeepIdentity(ctx, c, path, clk, log) },
		func(ctx context.Context) error { return giveBackUnusedPages(ctx, clk, log) }}, log)
}

type runner = func(context.Context) error

// keepRevocations ends the streams of certificates that are revoked, as soon as this agent reads of it.
func keepRevocations(ctx context.Context, agent *app.Agent, entrance *rpc.Gate, clk clock.Clock) error {
	sig := clk.NewSignal()
	defer agent.Subscribe(sig)()
	seen := agent.Snapshot().Revocations
	for ctx.Err() == nil {
		now := agent.Snapshot().Revocations
		for range now.ChangedSince(seen) {
			entrance.Recheck()
			break
		}
		seen = now
		sig.Wait(ctx, -1)
	}
	return ctx.Err()
}

// serveAndRun serves the API and runs the agent and what it needs beside it. The first that fails ends all.
func serveAndRun(ctx context.Context, listen string, entrance *rpc.Gate, srv *grpc.Server, agent *app.Agent, beside []runner, log *slog.Logger) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan error, len(beside)+2)
	start := func(f runner) { go func() { done <- f(run) }() }
	for _, f := range beside {
		start(f)
	}
	start(agent.Run)
	start(func(context.Context) error { return srv.Serve(entrance.Listen(listener)) })
	log.Info("agent runs", "listen", listen, "version", version.String())

	var failure error
	left := len(beside) + 2
	select {
	case failure = <-done:
		left--
	case <-ctx.Done():
		failure = leave(agent)
		log.Info("agent leaves; VMs run on", "err", failure)
	}
	srv.Stop()
	cancel()
	for range left {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, grpc.ErrServerStopped) {
			failure = errors.Join(failure, err)
		}
	}
	return failure
}

func leave(agent *app.Agent) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	return agent.Leave(ctx)
}

// storagePaths lists the configured storage paths.
func storagePaths(c config.Config) []string {
	var paths []string
	for _, s := range c.Storage {
		paths = append(paths, s.Path)
	}
	return paths
}
