//go:build libvirt_dlopen

package virt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/definition"
	"github.com/holdfast-ha/holdfast/agent/virt/process"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Capacity reads what this server has.
func (a *Adapter) Capacity(ctx context.Context) (local.Capacity, error) {
	boot, err := a.facts.BootID()
	if err != nil {
		return local.Capacity{}, err
	}
	r := request{what: "read capacity", limit: a.opt.StartLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (local.Capacity, error) {
		text, err := conn.GetCapabilities()
		if err != nil {
			return local.Capacity{}, fmt.Errorf("capabilities: %w", failure(err, true))
		}
		var caps libvirtxml.Caps
		if err := xml.Unmarshal([]byte(text), &caps); err != nil {
			return local.Capacity{}, fmt.Errorf("capabilities: %w", err)
		}
		info, err := conn.GetNodeInfo()
		if err != nil {
			return local.Capacity{}, fmt.Errorf("node information: %w", failure(err, true))
		}
		return local.Capacity{HostUUID: strings.ToLower(caps.Host.UUID), BootID: boot,
			MemoryBytes: int64(info.Memory) << 10, CPUs: int(info.Cpus)}, nil
	})
}

// CPUModel names the CPU that this server can give to a VM of CPU mode host-model, in the form of a pool.NeedCPU
// ("EPYC,+ss,-hle"); empty if libvirt does not know.
func (a *Adapter) CPUModel(ctx context.Context) (string, error) {
	r := request{what: "read CPU model", limit: a.opt.StartLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		text, err := conn.GetDomainCapabilities("", "", "", "", 0)
		if err != nil {
			return "", fmt.Errorf("domain capabilities: %w", failure(err, true))
		}
		var caps libvirtxml.DomainCaps
		if err := xml.Unmarshal([]byte(text), &caps); err != nil {
			return "", fmt.Errorf("domain capabilities: %w", err)
		}
		if caps.CPU == nil {
			return "", nil
		}
		for _, m := range caps.CPU.Modes {
			if m.Name == "host-model" && len(m.Models) > 0 {
				name := m.Models[0].Name
				for _, f := range m.Features {
					name += map[string]string{"require": ",+", "disable": ",-"}[f.Policy] + f.Name
				}
				return name, nil
			}
		}
		return "", nil
	})
}

// Usage reads the live load of the VMs that carry a marker, from their processes: libvirt's statistics wait for every
// QEMU's monitor, so that one VM that hangs would hide all others' figures (docs/facts.md).
func (a *Adapter) Usage(ctx context.Context) ([]local.Usage, error) {
	domains, err := a.Domains(ctx)
	if err != nil {
		return nil, err
	}
	var all []local.Usage
	for _, d := range domains {
		if d.Marker == nil || d.Process.PID == 0 || d.State == local.DomainGone {
			continue
		}
		cpu, memory, err := a.procs.Usage(d.Process)
		if errors.Is(err, process.ErrNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, local.Usage{VM: d.VM, CPUTime: cpu, MemoryBytes: memory})
	}
	return all, nil
}

// Load reads the load of the whole server, without libvirt.
func (a *Adapter) Load() (process.Load, error) { return a.procs.Load() }

// StorageLost reports whether the path to the shared storage is gone. It never blocks.
func (a *Adapter) StorageLost(context.Context) (bool, error) { return a.storage.Lost(), nil }

// Missing returns what this server lacks of needs, in words, in their order; empty if nothing. It fails if that
// cannot be told now: storage that hangs, libvirt away.
func (a *Adapter) Missing(ctx context.Context, needs []pool.Need) ([]string, error) {
	var lacks []string
	var errs []error
	machine := definition.Machine{}
	for _, n := range needs {
		if n.Kind == pool.NeedMachine {
			machine = definition.ParseMachine(n.Name)
		}
	}
	for _, n := range needs {
		lack, err := a.lacks(ctx, n, machine)
		if err != nil {
			errs = append(errs, err)
		} else if lack != "" {
			lacks = append(lacks, lack)
		}
	}
	return lacks, errors.Join(errs...)
}

// lacks checks one need; the words name what is missing.
func (a *Adapter) lacks(ctx context.Context, n pool.Need, machine definition.Machine) (string, error) {
	here := true
	var err error
	switch n.Kind {
	case pool.NeedFile:
		here, err = a.facts.File(ctx, n.Name)
	case pool.NeedBridge:
		here = a.facts.Link(n.Name)
	case pool.NeedHostDevice:
		here = a.facts.Device(n.Name)
	case pool.NeedNetwork:
		return a.lacksNetwork(ctx, n)
	case pool.NeedSecret:
		here, err = a.hasSecret(ctx, n.Name)
	case pool.NeedMachine:
		return a.remembered(question{n, machine}, func() (string, error) { return a.lacksMachine(ctx, n, definition.ParseMachine(n.Name)) })
	case pool.NeedCPU:
		return a.remembered(question{n, machine}, func() (string, error) { return a.lacksCPU(ctx, n, machine) })
	}
	if err != nil || here {
		return "", err
	}
	return fmt.Sprintf("%v %s", n.Kind, n.Name), nil
}

// question is one that a daemon answers alike as long as it runs.
type question struct {
	need    pool.Need
	machine definition.Machine
}

// remembered asks once for each connection: a pool's VMs have few machine types and CPU models between them.
func (a *Adapter) remembered(q question, ask func() (string, error)) (string, error) {
	a.mu.Lock()
	answer, ok := a.answers[q]
	answers := a.answers
	a.mu.Unlock()
	if ok {
		return answer, nil
	}
	answer, err := ask()
	if err == nil && answers != nil {
		a.mu.Lock()
		answers[q] = answer
		a.mu.Unlock()
	}
	return answer, err
}

func (a *Adapter) lacksNetwork(ctx context.Context, n pool.Need) (string, error) {
	r := request{what: "look up network", limit: a.opt.CallLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		net, err := conn.LookupNetworkByName(n.Name)
		if isCode(err, libvirt.ERR_NO_NETWORK) || isCode(err, libvirt.ERR_NO_SUPPORT) {
			return fmt.Sprintf("%v %s", n.Kind, n.Name), nil
		}
		if err != nil {
			return "", fmt.Errorf("network %s: %w", n.Name, failure(err, true))
		}
		defer func() { _ = net.Free() }() // fails only for an invalid handle
		active, err := net.IsActive()
		if err != nil {
			return "", fmt.Errorf("network %s: %w", n.Name, failure(err, true))
		}
		if !active {
			return fmt.Sprintf("%v %s (it is defined but not started)", n.Kind, n.Name), nil
		}
		return "", nil
	})
}

func (a *Adapter) hasSecret(ctx context.Context, name string) (bool, error) {
	usages := map[string]libvirt.SecretUsageType{"volume": libvirt.SECRET_USAGE_TYPE_VOLUME, "ceph": libvirt.SECRET_USAGE_TYPE_CEPH,
		"iscsi": libvirt.SECRET_USAGE_TYPE_ISCSI, "tls": libvirt.SECRET_USAGE_TYPE_TLS, "vtpm": libvirt.SECRET_USAGE_TYPE_VTPM}
	r := request{what: "look up secret", limit: a.opt.CallLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (bool, error) {
		var s *libvirt.Secret
		var err error
		if kind, usage, ok := strings.Cut(name, " "); ok {
			s, err = conn.LookupSecretByUsage(usages[kind], usage)
		} else {
			s, err = conn.LookupSecretByUUIDString(name)
		}
		if isCode(err, libvirt.ERR_NO_SECRET) || isCode(err, libvirt.ERR_NO_SUPPORT) || isCode(err, libvirt.ERR_INVALID_ARG) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("secret %s: %w", name, failure(err, true))
		}
		return true, s.Free()
	})
}

// lacksMachine asks whether a QEMU here has the machine type, for that architecture and accelerator.
func (a *Adapter) lacksMachine(ctx context.Context, n pool.Need, m definition.Machine) (string, error) {
	r := request{what: "look up machine type", limit: a.opt.StartLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		_, err := conn.GetDomainCapabilities("", m.Arch, m.Name, m.Type, 0)
		var e libvirt.Error
		switch {
		case err == nil:
			return "", nil
		case !errors.As(err, &e), broken(e):
			return "", fmt.Errorf("machine type: %w", failure(err, true))
		}
		return fmt.Sprintf("%v %s: %s", n.Kind, n.Name, message(e)), nil
	})
}

// lacksCPU asks whether the CPU of this server, as its QEMU can show it, has all that a CPU model asks for.
func (a *Adapter) lacksCPU(ctx context.Context, n pool.Need, m definition.Machine) (string, error) {
	r := request{what: "compare CPU", limit: a.opt.StartLimit, reads: true}
	return run(ctx, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		result, err := conn.CompareHypervisorCPU("", m.Arch, m.Name, m.Type, definition.CPUXML(n.Name), libvirt.CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE)
		var e libvirt.Error
		switch {
		case err == nil && result == libvirt.CPU_COMPARE_INCOMPATIBLE:
			return fmt.Sprintf("%v %s", n.Kind, n.Name), nil
		case err == nil:
			return "", nil
		case isCode(err, libvirt.ERR_NO_SUPPORT), isCode(err, libvirt.ERR_OPERATION_UNSUPPORTED), isCode(err, libvirt.ERR_CONFIG_UNSUPPORTED):
			return "", nil // this QEMU or libvirt cannot compare; a start will tell
		case !errors.As(err, &e), broken(e):
			return "", fmt.Errorf("CPU: %w", failure(err, true))
		}
		return fmt.Sprintf("%v %s: %s", n.Kind, n.Name, message(e)), nil
	})
}
