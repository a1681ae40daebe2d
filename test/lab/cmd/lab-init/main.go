//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

func main() {
	var err error
	if strings.HasPrefix(filepath.Base(os.Args[0]), "qemu-system-") {
		err = becomeQEMU()
	} else {
		err = boot()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab-init: %v\n", err)
		os.Exit(1)
	}
}

func boot() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: lab-init PLAN")
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("this is the first process of a lab server and runs as PID 1 only")
	}
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var plan inside.Plan
	if err := json.Unmarshal(raw, &plan); err != nil {
		return fmt.Errorf("read %s: %w", os.Args[1], err)
	}
	if err := furnish(plan); err != nil {
		return err
	}
	return newSupervisor(plan).serve(inside.Socket)
}

// furnish makes the server's own view of the file system.
func furnish(plan inside.Plan) error {
	if err := unix.Sethostname([]byte(plan.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// A fresh /sys shows this network namespace's links, and it has no cgroup
	// mounts: libvirtd must not move QEMU out of the server's cgroup.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return fmt.Errorf("unmount /sys: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	for _, b := range plan.Binds {
		if err := bind(b.Source, b.Target); err != nil {
			return err
		}
	}
	return wrapQEMU(plan)
}

func wrapQEMU(plan inside.Plan) error {
	if plan.Wrapper == "" {
		return nil
	}
	if err := os.WriteFile(inside.RealQEMU, nil, 0o755); err != nil {
		return err
	}
	if err := bind(plan.QEMU, inside.RealQEMU); err != nil {
		return err
	}
	return bind(plan.Wrapper, plan.QEMU)
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s over %s: %w", source, target, err)
	}
	return nil
}

// becomeQEMU replaces this process by QEMU. libvirt's own probes of QEMU run no
// guest and are passed through untouched.
func becomeQEMU() error {
	argv := os.Args
	if guest(argv) {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		base := fmt.Sprintf("%s/%d", inside.QMPDir, os.Getpid())
		argv = append(oddMemory(argv),
			"-qmp", "unix:"+base+".watch,server=on,wait=off",
			"-qmp", "unix:"+base+".tool,server=on,wait=off",
			"-smbios", "type=11,value="+inside.MarkKey+host)
	}
	// QEMU looks for its firmware and modules beside its executable, which is
	// bound to another place here.
	argv = append(argv[:1:1], append([]string{"-L", "/usr/share/qemu", "-L", "/usr/share/seabios"}, argv[1:]...)...)
	env := append(os.Environ(), "QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu")
	return fmt.Errorf("run %s: %w", inside.RealQEMU, syscall.Exec(inside.RealQEMU, argv, env))
}

func guest(argv []string) bool {
	for i, a := range argv {
		if a == "-name" && i+1 < len(argv) && strings.HasPrefix(argv[i+1], "guest=") {
			return true
		}
	}
	return false
}
