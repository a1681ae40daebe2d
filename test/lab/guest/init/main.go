//go:build linux

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab/guest/record"
)

const (
	disk     = "/dev/vda"
	diskWait = 20 * time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Println("lab guest:", err)
	}
	// Reaching this point is a failure. Stop the machine instead of returning,
	// which would panic the kernel and look like a crash of the guest.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	if err := prepare(); err != nil {
		return err
	}
	go powerButton()
	args := arguments()
	var d dirtier
	if rate := args.number("hf.dirty", 0); rate > 0 {
		go d.run(rate, args.number("hf.dirtyset", 16))
	}
	if size := args.number("hf.fill", 0); size > 0 {
		fill(size)
	}
	w, err := newWriter(serverMark(), &d)
	if err != nil {
		return err
	}
	fmt.Printf("lab guest: boot %d on %s, counter %d\n", w.rec.Boots, w.rec.Mark, w.rec.Counter)
	for range time.Tick(time.Duration(max(1, args.number("hf.every", 100))) * time.Millisecond) {
		if err := w.step(); err != nil {
			// The host may refuse I/O for a while (lost storage path): keep trying, as
			// a real guest with a patient file system does.
			fmt.Println("lab guest:", err)
		}
	}
	return nil
}

func prepare() error {
	for _, m := range []struct{ kind, dir string }{{"proc", "/proc"}, {"devtmpfs", "/dev"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	deadline := time.Now().Add(diskWait)
	for {
		if _, err := os.Stat(disk); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s after %s", disk, diskWait)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// loadModules loads everything in /modules. One may need another that comes
// later, so it goes round until nothing is left or nothing moves.
func loadModules() error {
	left, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for len(left) > 0 {
		var failed []string
		var last error
		for _, path := range left {
			if err := loadModule(path); err != nil {
				failed, last = append(failed, path), fmt.Errorf("module %s: %w", path, err)
			}
		}
		if len(failed) == len(left) {
			fmt.Println("lab guest:", last) // whether it matters shows when the disk is opened
			return nil
		}
		left = failed
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

type kernelArgs map[string]string

func arguments() kernelArgs {
	line, _ := os.ReadFile("/proc/cmdline")
	args := kernelArgs{}
	for _, word := range strings.Fields(string(line)) {
		key, value, _ := strings.Cut(word, "=")
		args[key] = value
	}
	return args
}

func (a kernelArgs) number(key string, otherwise int) int {
	if n, err := strconv.Atoi(a[key]); err == nil {
		return n
	}
	return otherwise
}

// serverMark finds the name of the server in the SMBIOS tables, where the lab's
// QEMU wrapper puts it as an OEM string.
func serverMark() string {
	const key = "holdfast-lab-server="
	tables, err := os.ReadFile("/sys/firmware/dmi/tables/DMI")
	if err != nil {
		return "unknown"
	}
	_, rest, ok := bytes.Cut(tables, []byte(key))
	if !ok {
		return "unknown"
	}
	name, _, _ := bytes.Cut(rest, []byte{0})
	return string(name)
}

func bootID() (id record.BootID) {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	raw, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	copy(id[:], raw)
	return id
}

func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// openDisk opens the disk past every cache between the guest and the image.
func openDisk() (*os.File, error) {
	return os.OpenFile(disk, os.O_RDWR|syscall.O_DIRECT|syscall.O_SYNC, 0)
}
