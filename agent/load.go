package main

import (
	"context"

	"github.com/holdfast-ha/holdfast/agent/figures"
	"github.com/holdfast-ha/holdfast/agent/virt"
)

// load is this server's load, from /proc and libvirt.
type load struct{ *virt.Adapter }

var _ figures.Source = load{}

// Host reads the load of the whole server.
func (l load) Host(context.Context) (figures.Host, error) {
	h, err := l.Load()
	return figures.Host{Busy: h.Busy, CPUs: h.CPUs, MemoryUsedBytes: h.MemoryUsedBytes, MemoryBytes: h.MemoryBytes}, err
}
