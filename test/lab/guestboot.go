package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kernelMeta is the Debian package that depends on the current kernel for
// virtual machines.
const kernelMeta = "linux-image-cloud-amd64"

// guestModules are the kernel modules that the guest may need, each after those
// that it uses: the guest's init tries again what failed, which costs time. What
// the kernel has built in has no file.
var guestModules = []string{"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
	"virtio_pci", "virtio_blk", "button", "evdev", "pvpanic", "pvpanic-mmio", "pvpanic-pci"}

// GuestBoot is what a guest boots from, on shared storage.
type GuestBoot struct{ Kernel, Initrd string }

// GuestBoot makes the guest's kernel and initramfs on first use. The kernel
// package is fetched with apt once and kept in the cache.
func (l *Lab) GuestBoot(ctx context.Context) (GuestBoot, error) {
	dir := filepath.Join(l.SharedDir(), "boot")
	b := GuestBoot{Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initramfs")}
	if _, err := os.Stat(b.Initrd); err == nil {
		return b, nil
	}
	kernel, err := l.guestKernel(ctx)
	if err != nil {
		return b, fmt.Errorf("guest kernel: %w", err)
	}
	initrd, err := l.initramfs(ctx, kernel)
	if err != nil {
		return b, fmt.Errorf("guest initramfs: %w", err)
	}
	if err := makeDirs(0o755, dir); err != nil {
		return b, err
	}
	vmlinuz, err := os.ReadFile(filepath.Join(kernel, "vmlinuz"))
	if err != nil {
		return b, err
	}
	if err := writeFile(b.Kernel, vmlinuz, 0o644); err != nil {
		return b, err
	}
	// The initramfs comes last and in one step: it says that both are there.
	if err := writeFile(b.Initrd+".new", initrd, 0o644); err != nil {
		return b, err
	}
	return b, os.Rename(b.Initrd+".new", b.Initrd)
}

func (l *Lab) initramfs(ctx context.Context, kernel string) ([]byte, error) {
	program := filepath.Join(l.opts.dataDir(), "bin", "guest-init")
	if err := l.build(ctx, "test/lab/guest/init", program); err != nil {
		return nil, err
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var a archive
	for _, d := range []string{"dev", "proc", "sys", "modules"} {
		a.dir(d)
	}
	a.device("dev/console", 5, 1)
	a.file("init", init)
	for i, m := range guestModules {
		data, err := os.ReadFile(filepath.Join(kernel, "modules", m+".ko"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // built in
		}
		if err != nil {
			return nil, err
		}
		a.file(fmt.Sprintf("modules/%02d-%s.ko", i, m), data)
	}
	return a.bytes(), nil
}

// guestKernel returns a cache directory with vmlinuz and modules/*.ko. Without
// a package list (offline) the newest kernel in the cache does.
func (l *Lab) guestKernel(ctx context.Context) (string, error) {
	cache := filepath.Join(l.opts.CacheDir, "kernel")
	pkg, err := kernelPackage(ctx)
	if err != nil {
		found, _ := filepath.Glob(filepath.Join(cache, "linux-image-*", "vmlinuz"))
		if len(found) == 0 {
			return "", err
		}
		return filepath.Dir(found[len(found)-1]), nil
	}
	dir := filepath.Join(cache, pkg)
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err == nil {
		return dir, nil
	}
	return dir, fetchKernel(ctx, pkg, dir)
}

func kernelPackage(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "apt-cache", "depends", "--important", kernelMeta)
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(out, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok && strings.HasPrefix(name, "linux-image-") {
			return name, nil
		}
	}
	return "", fmt.Errorf("no kernel found behind %s (does apt-get update help?)", kernelMeta)
}

// fetchKernel unpacks the parts that a guest needs; nothing is installed.
func fetchKernel(ctx context.Context, pkg, dir string) error {
	if err := makeDirs(0o755, filepath.Dir(dir)); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "fetch-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	const script = `cd "$1" && apt-get -q download "$2" && dpkg-deb -x ./*.deb tree && mkdir -p new/modules &&
		cp tree/boot/vmlinuz-* new/vmlinuz && cp tree/boot/config-* new/config &&
		find tree/lib/modules -name '*.ko' -path '*/drivers/*' -exec cp -t new/modules {} + && chmod -R a+rX new`
	if _, err := run(ctx, "", "sh", "-c", script, "sh", tmp, pkg); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err == nil {
		return nil // another lab was quicker
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	err = os.Rename(filepath.Join(tmp, "new"), dir)
	if _, there := os.Stat(filepath.Join(dir, "vmlinuz")); there == nil {
		return nil
	}
	return err
}
