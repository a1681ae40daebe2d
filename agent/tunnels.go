package main

import (
	"context"
	"log/slog"

	"github.com/holdfast-ha/holdfast/agent/app"
	"github.com/holdfast-ha/holdfast/agent/mesh"
	"github.com/holdfast-ha/holdfast/agent/mesh/tunnel"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// migrateDir is where the sockets of live migrations are: the same on every server, where AppArmor's and SELinux's usual
// rules let QEMU listen.
const migrateDir = "/run/libvirt/holdfast"

// newTunnels returns the ends of this server's tunnels, without what an earlier agent left.
func newTunnels(hv *virt.Adapter, clk clock.Clock, log *slog.Logger) *tunnel.Ends {
	ends := tunnel.New(tunnel.Options{
		Dir: migrateDir, Libvirt: hv.Socket, Clock: clk, Log: log,
		User: func(ctx context.Context) (uid, gid int, err error) {
			if err := hv.MakeReady(ctx); err != nil {
				return 0, 0, err
			}
			return hv.QEMUUser(ctx)
		},
	})
	if err := ends.Sweep(); err != nil {
		log.Warn("sockets of earlier migrations", "err", err)
	}
	return ends
}

// gate judges tunnels by the claims, read afresh.
type gate struct {
	server pool.ServerID
	agent  func() *app.Agent
}

var _ mesh.Gate = gate{}

// Admitted implements mesh.Gate.
func (g gate) Admitted(ctx context.Context, from pool.ServerID, op pool.OperationID, vm pool.VMID) error {
	a := g.agent()
	c, _, err := a.ReadClaim(ctx, vm)
	if err != nil {
		return err
	}
	c.VM = vm
	return mesh.Admit(c, from, g.server, a.Session(), op)
}
