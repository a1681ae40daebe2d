package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/agent/sim/simnet"
	"github.com/holdfast-ha/holdfast/agent/sim/vtime"
	"github.com/holdfast-ha/holdfast/agent/sim/world"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/store"
)

// Ports of a demo: agents from AgentPort on, etcd's clients at EtcdPort and its peers above.
const (
	AgentPort = 7400
	EtcdPort  = 7390
)

// Options of a demo.
type Options struct {
	// AgentPort and EtcdPort are the first of their ranges on loopback; 0 means the defaults.
	AgentPort, EtcdPort int
	// Control is the UNIX socket on which statements are taken; see ControlPath.
	Control string
	// Serve registers an agent's services.
	Serve func(*grpc.Server, *app.Agent)
	// Out is told what happens to the simulated servers, a line each; nil: nobody.
	Out io.Writer
	// Scenario is a file of the scenario language: its pool is the demo's, and its time line is played. Empty: the
	// demo's own pool, and nothing happens by itself.
	Scenario string
	// Ready is called once all VMs have been asked to start and the agents serve; nil: nobody.
	Ready func(agents []string)
	Log   *slog.Logger
}

// Run runs a demo until ctx ends.
func Run(ctx context.Context, o Options) error {
	if o.AgentPort == 0 {
		o.AgentPort = AgentPort
	}
	if o.EtcdPort == 0 {
		o.EtcdPort = EtcdPort
	}
	base := text
	if o.Scenario != "" {
		data, err := os.ReadFile(o.Scenario)
		if err != nil {
			return fmt.Errorf("scenario: %w", err)
		}
		base = string(data)
	}
	file, err := readScenario(dashIf(o.Scenario, "demo"), base)
	if err != nil {
		return err
	}
	control, err := listenControl(o.Control)
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }() // its file goes with it
	dir, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	etcd, endpoint, err := startEtcd(ctx, dir, o.EtcdPort)
	if err != nil {
		return err
	}
	defer etcd.Close()
	db, err := openEtcd(endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // written and acknowledged by then
	keys := store.NewKeys(file.Pool.Name)
	if _, err = db.Txn(ctx, kv.Txn{If: []kv.Compare{kv.Absent(keys.Config())}, Then: seedPool(file, keys, o.AgentPort)}); err != nil {
		return fmt.Errorf("seed etcd: %w", err)
	}
	d := newDemo(o, file, endpoint)
	d.text = base
	return d.run(ctx, control, func() error { return registerVMs(ctx, db, file, keys) })
}

func dashIf(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// registerVMs asks for the VMs once all servers have joined, so that each begins where it belongs.
func registerVMs(ctx context.Context, db *kvetcd.Etcd, f *scenario.File, keys store.Keys) error {
	deadline := time.Now().Add(joinLimit)
	up := 0
	for _, s := range f.Servers {
		if s.Up {
			up++
		}
	}
	for joined := 0; joined < up && time.Now().Before(deadline); {
		found, _, err := db.List(ctx, keys.Prefix()+"members/")
		if ctx.Err() != nil {
			return nil // the demo was ended meanwhile
		}
		if err != nil {
			return fmt.Errorf("see who joined: %w", err)
		}
		if joined = len(found); joined < up {
			_ = clock.Real().Sleep(ctx, 20*time.Millisecond) // its only error is the end of ctx
		}
	}
	if _, err := db.Txn(ctx, kv.Txn{Then: seedVMs(f, keys, time.Now())}); err != nil && ctx.Err() == nil {
		return fmt.Errorf("register the VMs: %w", err)
	}
	return nil
}

// joinLimit bounds the wait for the servers; the VMs are asked for all the same.
const joinLimit = 10 * time.Second

// demo is one running demo.
type demo struct {
	o     Options
	file  *scenario.File
	text  string // of file
	paced *vtime.Paced
	world *world.World
	crew  *crew
	names []string

	mu sync.Mutex
	// latest is the operation that an operator's command made last.
	latest pool.OperationID
}

func newDemo(o Options, f *scenario.File, endpoint string) *demo {
	s := vtime.New(uint64(time.Now().UnixNano())) //nolint:gosec // any bits will do
	d := &demo{o: o, file: f, paced: vtime.Pace(s)}
	opt := world.DefaultOptions()
	piece := d.paced.Timepiece()
	opt.Timepiece, opt.Epoch = &piece, time.Now()
	network := simnet.New(s)
	d.world = world.New(s, network, nil, opt)
	d.crew = &crew{world: d.world, network: network, paced: d.paced, pool: f.Pool.Name, endpoint: endpoint, address: map[string]string{}, serve: o.Serve, log: o.Log,
		said: d.say, agents: map[string]*running{}, guards: map[*vtime.Proc]*guard.Loop{}}
	for i, srv := range f.Servers {
		d.world.AddServer(srv.ServerSpec)
		d.crew.address[srv.Name] = address(o.AgentPort, i)
		d.names = append(d.names, srv.Name)
	}
	for _, v := range f.VMs {
		d.world.AddVM(v.Sim)
	}
	network.OnChange(d.crew.lookAtNetwork)
	d.world.Install(d.crew)
	d.world.Observe(func(e world.Event) { d.say("%s", e.Text) })
	return d
}

// say prints one line of what happened.
func (d *demo) say(format string, args ...any) {
	if d.o.Out == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprintf(d.o.Out, "%s  %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...)) // a lost terminal ends the demo by its own signal
}

// run plays the demo, and takes statements at control, until ctx ends. began is called once the servers are on.
func (d *demo) run(ctx context.Context, control net.Listener, began func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.crew.ctx = ctx
	go d.takeStatements(control)
	paced := make(chan error, 1)
	worldLife, endWorld := context.WithCancel(context.WithoutCancel(ctx))
	defer endWorld()
	go func() { paced <- d.paced.Run(worldLife) }()
	d.paced.Do(func() {
		for i, s := range d.world.Servers() {
			if d.file.Servers[i].Up {
				s.Start()
			}
		}
	})
	err := began()
	if err != nil {
		cancel()
	}
	if err == nil && d.o.Ready != nil {
		var agents []string
		for _, n := range d.names {
			agents = append(agents, d.crew.address[n])
		}
		d.o.Ready(agents)
	}
	if err == nil {
		go d.play(ctx)
	}
	select {
	case ended := <-paced:
		err = errors.Join(err, ended)
		cancel()
	case <-ctx.Done():
	}
	d.crew.group.Wait()
	endWorld()
	return err
}
