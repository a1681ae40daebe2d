package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/agent/check"
	"github.com/holdfast-ha/holdfast/agent/fence"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	"github.com/holdfast-ha/holdfast/pkg/store"
	"github.com/holdfast-ha/holdfast/pkg/version"
	"github.com/holdfast-ha/holdfast/pkg/wire"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Limits of what the check waits for.
const (
	checkLimit      = 5 * time.Second
	checkFenceLimit = 30 * time.Second
	// etcdReads is how many reads etcd's latency is judged by, readPause the time between them.
	etcdReads = 25
	readPause = 40 * time.Millisecond
)

// checkCommand looks whether this server and its pool are set up well. It changes nothing.
func checkCommand(path *string) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use: "check", Short: "look whether this server and its pool would survive the loss of a server; changes nothing", Args: cobra.NoArgs,
		Long: "Looks at versions, clocks, etcd's latency, libvirt, shared storage, CPUs, host UUIDs, guards, the watchdog, fence devices and\n" +
			"network paths, and says what to do about what is not good. Exit status: 0 nothing fails, 1 something does, 2 the settings\ncannot be used.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(*path)
			if err != nil {
				cmd.PrintErrln("holdfast-agent:", err)
				return exitError(2)
			}
			lines := check.Judge(collect(cmd.Context(), c, newLogger(config.Log{Level: "error"})))
			if err := printCheck(cmd.OutOrStdout(), lines, asJSON); err != nil {
				return err
			}
			if check.Worst(lines) == check.Fail {
				return exitError(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "for scripts: a list of name, verdict, text and fix")
	return cmd
}

func printCheck(w io.Writer, lines []check.Line, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(lines)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%s\n", l.Verdict, l.Name, l.Text)
		if l.Fix != "" {
			fmt.Fprintf(t, "\t\t-> %s\n", l.Fix)
		}
	}
	return t.Flush()
}

// collector asks everybody once.
type collector struct {
	cfg   config.Config
	clock clock.Clock
	log   *slog.Logger
	facts check.Facts
}

func collect(ctx context.Context, c config.Config, log *slog.Logger) check.Facts {
	k := &collector{cfg: c, clock: clock.Real(), log: log}
	k.facts = check.Facts{Server: pool.ServerID(c.Server), Version: version.Version, Storage: storagePaths(c)}
	cpu := k.libvirt(ctx)
	k.guard(ctx)
	k.facts.Watchdog = lookAtWatchdog(watchdogPath(c.Guard.Watchdog), c.Guard.Watchdog)
	id, err := pki.Open(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key})
	if err != nil {
		k.facts.PoolErr = err.Error()
		return k.facts
	}
	k.pool(ctx, id)
	k.peers(ctx, id, cpu)
	k.fences(ctx)
	k.facts.Paths = lookAtPaths(c)
	return k.facts
}

func (k *collector) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return k.clock.WithTimeout(ctx, limit)
}

// libvirt returns the CPU that VMs get here.
func (k *collector) libvirt(ctx context.Context) (cpu string) {
	ctx, cancel := k.within(ctx, checkLimit)
	defer cancel()
	hv := virt.New(virt.Options{Clock: k.clock, Log: k.log, URI: k.cfg.Libvirt})
	go func() { _ = hv.Run(ctx) }()
	var err error
	for ctx.Err() == nil {
		c, cerr := hv.Capacity(ctx)
		if err = cerr; err == nil {
			k.facts.Libvirt = check.Libvirt{HostUUID: c.HostUUID, MemoryBytes: c.MemoryBytes, CPUs: c.CPUs}
			cpu, _ = hv.CPUModel(ctx)
			return cpu
		}
		if k.clock.Sleep(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	k.facts.Libvirt.Err = err.Error()
	return ""
}

func (k *collector) guard(ctx context.Context) {
	ctx, cancel := k.within(ctx, checkLimit)
	defer cancel()
	if _, err := guard.NewClient(k.cfg.Guard.Socket, k.clock).Status(ctx); err != nil {
		k.facts.GuardErr = err.Error()
	}
}

// pool reads the pool from etcd and measures how long etcd takes.
func (k *collector) pool(ctx context.Context, id *pki.Store) {
	db, err := openEtcd(ctx, k.cfg, id, k.log)
	if err != nil {
		k.facts.PoolErr = err.Error()
		return
	}
	defer db.close()
	st := store.New(db.kv, store.NewKeys(k.cfg.Pool))
	origin, err := setup.LoadOrigin(k.cfg.StateDir)
	if err == nil {
		err = k.once(ctx, func(ctx context.Context) error {
			k.facts.Pool, err = st.Load(ctx, origin.Incarnation)
			return err
		})
	}
	if err != nil {
		k.facts.Pool, k.facts.PoolErr = nil, err.Error()
	}
	for range etcdReads {
		begun := k.clock.Now()
		if err := k.once(ctx, func(ctx context.Context) error { _, err := st.Revision(ctx); return err }); err != nil {
			break
		}
		k.facts.Etcd = append(k.facts.Etcd, k.clock.Now().Sub(begun))
		_ = k.clock.Sleep(ctx, readPause)
	}
	if len(k.facts.Etcd) > 0 {
		k.facts.Etcd = k.facts.Etcd[min(1, len(k.facts.Etcd)-1):] // the first one may have connected
	}
	k.facts.EtcdVersionErr = sentence(k.once(ctx, db.kv.CheckVersions))
	k.facts.LoseOneErr = sentence(k.once(ctx, db.canLoseOne))
	if k.facts.Pool != nil {
		k.facts.ElectionErr = sentence(k.cfg.CheckTTL(k.facts.Pool.Config.LeaseTTL))
	}
}

func (k *collector) once(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := k.within(ctx, checkLimit)
	defer cancel()
	return f(ctx)
}

func sentence(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// peers asks every registered server, this one included.
func (k *collector) peers(ctx context.Context, id *pki.Store, cpu string) {
	k.facts.Peers = map[pool.ServerID]check.Peer{}
	if k.facts.Pool == nil {
		return
	}
	for name, s := range k.facts.Pool.Servers.All() {
		k.facts.Peers[name] = k.peer(ctx, id, s, cpu)
	}
}

func (k *collector) peer(ctx context.Context, id *pki.Store, s pool.Server, cpu string) (p check.Peer) {
	conn, err := rpc.Dial(rpc.Target{Agents: []string{s.Address}, TLS: id.Client(string(s.ID))}, rpc.Limits{})
	if err != nil {
		return check.Peer{Err: err.Error()}
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	mesh := pb.NewMeshServiceClient(conn)
	ask := func() (*pb.PingResponse, error) {
		ctx, cancel := k.within(ctx, checkLimit)
		defer cancel()
		return mesh.Ping(ctx, &pb.PingRequest{From: k.cfg.Server})
	}
	if _, err = ask(); err != nil { // connects
		return check.Peer{Err: err.Error()}
	}
	begun, wall := k.clock.Now(), k.clock.Wall()
	r, err := ask()
	if err != nil {
		return check.Peer{Err: err.Error()}
	}
	p = check.Peer{RoundTrip: k.clock.Now().Sub(begun), Version: r.GetVersion(), EtcdReachable: r.GetEtcdReachable(), Guard: r.GetGuard()}
	if r.GetNow() != nil {
		p.HasClock, p.Offset = true, r.GetNow().AsTime().Sub(wall)-p.RoundTrip/2
	}
	inspect := func(needs ...pool.Need) ([]string, error) {
		ctx, cancel := k.within(ctx, checkLimit)
		defer cancel()
		found, err := mesh.InspectVM(ctx, &pb.InspectVMRequest{Needs: wire.VM(pool.VM{Needs: needs}).GetNeeds()})
		return found.GetMissing(), err
	}
	var paths []pool.Need
	for _, path := range k.facts.Storage {
		paths = append(paths, pool.Need{Kind: pool.NeedFile, Name: path})
	}
	p.MissingStorage, err = inspect(paths...)
	p.StorageErr = sentence(err)
	if cpu != "" {
		p.CPULacks, _ = inspect(pool.Need{Kind: pool.NeedCPU, Name: cpu})
	}
	return p
}

// fences asks every fence device; a server that is down may say so.
func (k *collector) fences(ctx context.Context) {
	if k.facts.Pool == nil {
		return
	}
	k.facts.Fences = map[pool.ServerID]string{}
	fencer := fence.New(k.log)
	for id, s := range k.facts.Pool.Servers.All() {
		if len(s.Fence) == 0 {
			continue
		}
		ctx, cancel := k.within(ctx, checkFenceLimit)
		k.facts.Fences[id] = sentence(fencer.CheckOn(ctx, s))
		cancel()
	}
}
