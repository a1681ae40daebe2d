package terminal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/sim/demo"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Demo is a simulated pool in this process: real agents on a real etcd, simulated servers, real time.
type Demo struct {
	// Agents are the addresses of its agents.
	Agents  []string
	control string
	cancel  context.CancelFunc
	done    chan error
}

// StartDemo runs the demo's own pool or, with a scenario file, that one's. dir is for its files.
func StartDemo(ctx context.Context, dir, scenario string) (*Demo, error) {
	port, err := freePorts(12)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &Demo{control: filepath.Join(dir, "demo.sock"), cancel: cancel, done: make(chan error, 1)}
	ready := make(chan []string, 1)
	go func() {
		d.done <- demo.Run(ctx, demo.Options{
			AgentPort: port + 2, EtcdPort: port, Control: d.control, Scenario: scenario, Serve: serve, Log: slog.New(slog.DiscardHandler),
			Ready: func(agents []string) { ready <- agents },
		})
	}()
	select {
	case d.Agents = <-ready:
		return d, nil
	case err := <-d.done:
		cancel()
		return nil, fmt.Errorf("the demo ended: %w", err)
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

func serve(s *grpc.Server, a *app.Agent) {
	api := a.API()
	pb.RegisterPoolServiceServer(s, api)
	pb.RegisterServerServiceServer(s, api)
	pb.RegisterVMServiceServer(s, api)
	pb.RegisterOperationServiceServer(s, api)
	pb.RegisterEventServiceServer(s, api)
}

// Address is all agents for --agents.
func (d *Demo) Address() string { return strings.Join(d.Agents, ",") }

// Tell makes something happen, in the words of the scenario language.
func (d *Demo) Tell(statement string) error {
	_, err := demo.Tell(d.control, statement)
	return err
}

// Close ends the demo.
func (d *Demo) Close() error {
	d.cancel()
	select {
	case err := <-d.done:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("the demo does not end")
	}
}

// freePorts finds n ports in a row that are free on loopback.
func freePorts(n int) (int, error) {
	for range 100 {
		if first, ok := row(n); ok {
			return first, nil
		}
	}
	return 0, errors.New("no free ports in a row")
}

func row(n int) (first int, ok bool) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close() // it was only held
		}
	}()
	for i := range n {
		port := 0
		if i > 0 {
			port = first + i
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return 0, false
		}
		open = append(open, l)
		if a, is := l.Addr().(*net.TCPAddr); is && i == 0 {
			first = a.Port
		}
	}
	return first, true
}
