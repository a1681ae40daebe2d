package main

import (
	"context"
	"time"

	"github.com/holdfast-ha/holdfast/agent/setup"
	"github.com/holdfast-ha/holdfast/agent/virt"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/config"
)

// hostUUID asks libvirt who this machine is, and the machine itself where libvirt does not answer: libvirtd.conf
// may set another than the firmware's, and it is libvirt's that live migration compares.
func hostUUID(ctx context.Context, uri string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	hv := virt.New(virt.Options{Clock: clock.Real(), Log: newLogger(config.Log{Level: "error"}), URI: uri})
	go func() { _ = hv.Run(ctx) }()
	for ctx.Err() == nil {
		if c, err := hv.Capacity(ctx); err == nil && c.HostUUID != "" {
			return c.HostUUID, nil
		}
		if err := clock.Real().Sleep(ctx, 100*time.Millisecond); err != nil {
			break
		}
	}
	return setup.HostUUID("/")
}
