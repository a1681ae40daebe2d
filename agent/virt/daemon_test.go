//go:build libvirt_dlopen

package virt

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// envLab switches on the tests against a real libvirt, as for the lab.
const envLab = "HOLDFAST_LAB"

// daemon is a libvirtd of its own: in a mount namespace where /run, /var/lib/libvirt and the rest are empty. Its
// process table and network are the machine's.
type daemon struct {
	t      *testing.T
	dir    string
	holder *exec.Cmd // keeps the namespace while libvirtd is down
	server *exec.Cmd
	ended  chan struct{}
	// hostUUID is what it tells of its host.
	hostUUID string
}

// qemu.conf and libvirtd.conf for a machine without the usual users, cgroups and security modules.
const (
	qemuConf = `security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
`
	// Two daemons of one host UUID would not migrate to each other.
	daemonConf = `host_uuid = "%s"
auth_unix_rw = "none"
unix_sock_group = "root"
`
	setup = `set -e
mount --make-rprivate /
for d in run var/lib/libvirt var/cache/libvirt var/log/libvirt etc/libvirt; do
  mkdir -p "$1/$d" "/$d"
done
cp "$1/qemu.conf" "$1/etc/libvirt/qemu.conf"
mkdir -p "$1/run/libvirt" "$1/run/lock" "$1/etc/libvirt/qemu"
for d in qemu images boot network dnsmasq; do mkdir -p "$1/var/lib/libvirt/$d"; done
for d in var/lib/libvirt var/cache/libvirt var/log/libvirt etc/libvirt run; do mount --bind "$1/$d" "/$d"; done
echo ready
exec sleep infinity`
)

// daemons counts the daemons that were started.
var daemons atomic.Int64

// startDaemon starts a libvirtd, or skips the test where that is impossible.
func startDaemon(t *testing.T) *daemon {
	t.Helper()
	if os.Getenv(envLab) == "" || os.Geteuid() != 0 {
		t.Skipf("SKIPPED: a test with a real libvirtd; run it as root with `make lab-test`, or %s=1 go test -tags libvirt_dlopen", envLab)
	}
	for _, program := range []string{"libvirtd", "qemu-system-x86_64", "unshare", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: a test with a real libvirtd: %v", err)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-virt-") // a short path: UNIX sockets are made below it
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, dir: dir}
	t.Cleanup(d.remove)
	d.write("qemu.conf", qemuConf)
	d.hostUUID = fmt.Sprintf("8a1f6d3e-2c0b-4b67-9d55-%012x", daemons.Add(1))
	d.write("libvirtd.conf", fmt.Sprintf(daemonConf, d.hostUUID))
	d.holder = exec.Command("unshare", "-m", "sh", "-c", setup, "sh", dir)
	out, err := d.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.holder.Stderr = os.Stderr
	if err := d.holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatalf("mount namespace: %v", err)
	}
	d.start()
	return d
}

func (d *daemon) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	return path
}

func (d *daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "libvirtd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.server = exec.Command("nsenter", "-t", strconv.Itoa(d.holder.Process.Pid), "-m", "libvirtd", "--config", filepath.Join(d.dir, "libvirtd.conf"))
	d.server.Stdout, d.server.Stderr = log, log
	if err := d.server.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	d.ended = ended
	go func(c *exec.Cmd) { _ = c.Wait(); close(ended) }(d.server)
	within(d.t, 20*time.Second, "libvirtd answers", func() bool {
		_, err := os.Stat(d.socket())
		return err == nil
	})
}

// kill ends libvirtd by SIGKILL.
func (d *daemon) kill() {
	_ = d.server.Process.Kill() // it may be dead already
	<-d.ended
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "run/libvirt/libvirt-sock") }
func (d *daemon) runDir() string { return filepath.Join(d.dir, "run/libvirt/qemu") }

// remove ends everything the daemon has started.
func (d *daemon) remove() {
	if d.server != nil {
		d.kill()
	}
	files, _ := filepath.Glob(filepath.Join(d.runDir(), "*.pid")) // the pattern is fixed
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && pid > 1 && strings.Contains(string(line), "/holdfast-virt-") { // its disk may be another daemon's
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
	}
	if d.holder != nil && d.holder.Process != nil {
		_ = d.holder.Process.Kill()
		_ = d.holder.Wait()
	}
	if d.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(d.dir, "libvirtd.log"))
		d.t.Logf("libvirtd:\n%s", log)
	}
	_ = os.RemoveAll(d.dir)
}

// connect opens a connection of the test's own, to do what an operator would.
func (d *daemon) connect() *libvirt.Connect {
	d.t.Helper()
	if err := loop(); err != nil {
		d.t.Fatal(err)
	}
	conn, err := libvirt.NewConnect("qemu+unix:///system?socket=" + d.socket())
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _, _ = conn.Close() })
	return conn
}

// adapter runs an Adapter on the daemon.
func (d *daemon) adapter(change func(*Options)) *Adapter {
	d.t.Helper()
	o := Options{Clock: clock.Real(), Log: slog.New(slog.NewTextHandler(d.t.Output(), nil)), Sockets: []string{d.socket()}, RunDir: d.runDir()}
	if change != nil {
		change(&o)
	}
	a := New(o)
	ctx, done := d.t.Context(), make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	d.t.Cleanup(func() {
		if err := <-done; err != nil {
			d.t.Errorf("run: %v", err)
		}
	})
	within(d.t, 20*time.Second, "the adapter connects", func() bool { return a.Health().Connected })
	return a
}

// guest is one VM with a disk from which it boots a few bytes of machine code.
type guest struct {
	name, uuid, disk, xml string
	marker                local.Marker
}

// Programs for a guest's boot sector, on a q35 whose firmware puts the power management ports at 0x600.
var (
	// obeys waits for the power button, then powers off.
	obeys = []byte{0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, 0xfb, 0xf4, 0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xf6,
		0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd}
	// leaves powers off at once.
	leaves = []byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd}
	// panics reports a panic of its kernel.
	panics = []byte{0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd}
)

func (d *daemon) guest(name string, n int, code []byte) guest {
	d.t.Helper()
	sector := make([]byte, 1<<20)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	g := guest{name: name, uuid: fmt.Sprintf("6f1c2a4e-0000-4000-8000-%012d", n),
		marker: local.Marker{Pool: "lab", Incarnation: "i", VM: pool.VMID(name), Epoch: 1}}
	g.disk = d.write(name+".img", string(sector))
	g.xml = fmt.Sprintf(`<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
<panic model='isa'/></devices></domain>`, g.name, g.uuid, g.disk)
	return g
}

// within waits until ok holds.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", limit, what)
}
