package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// qemuPath is where libvirt finds QEMU on Debian.
const qemuPath = "/usr/bin/qemu-system-x86_64"

// privateDirs are the directories of which each server has its own; the right
// side is relative to the server's data directory. /run is apart: it is empty
// at each power-on.
var privateDirs = [][2]string{
	{"/etc/libvirt", "etc-libvirt"},
	{"/etc/holdfast", "etc-holdfast"},
	{"/var/lib/libvirt", "var-lib-libvirt"},
	{"/var/lib/holdfast", "var-lib-holdfast"},
	{"/var/cache/libvirt", "var-cache-libvirt"},
	{"/var/log/libvirt", "var-log-libvirt"},
}

// furnish makes the lab's directories, programs and configuration.
func (l *Lab) furnish(ctx context.Context, n int) error {
	if err := makeDirs(0o755, l.opts.runDir(), l.opts.dataDir(), filepath.Join(l.opts.dataDir(), "bin")); err != nil {
		return err
	}
	st := state{Servers: n}
	for _, d := range privateDirs {
		if _, err := os.Stat(d[0]); os.IsNotExist(err) {
			st.Made = append(st.Made, d[0])
		}
	}
	if err := l.setState(st); err != nil {
		return err
	}
	if err := makeDirs(0o755, st.Made...); err != nil {
		return err
	}
	if err := l.build(ctx, "test/lab/cmd/lab-init", l.initBinary()); err != nil {
		return err
	}
	if err := l.build(ctx, "test/lab/cmd/fence_lab", l.FenceAgent()); err != nil {
		return err
	}
	if err := l.makeShared(); err != nil {
		return err
	}
	for i := 1; i <= n; i++ {
		if err := l.server(i).furnish(n); err != nil {
			return fmt.Errorf("srv-%d: %w", i, err)
		}
	}
	return nil
}

func (l *Lab) initBinary() string { return filepath.Join(l.opts.dataDir(), "bin", "lab-init") }

// build compiles one of our programs without cgo, so that it runs anywhere.
func (l *Lab) build(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", out, "./"+pkg)
	cmd.Dir = l.opts.SourceDir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}

func (l *Lab) makeShared() error {
	uid, gid, err := qemuUser()
	if err != nil {
		return err
	}
	if err := makeDirs(0o755, l.SharedDir()); err != nil {
		return err
	}
	return os.Chown(l.SharedDir(), uid, gid)
}

// qemuUser is the user that QEMU runs as: libvirt's own, as on a real server.
func qemuUser() (uid, gid int, err error) {
	u, err := user.Lookup("libvirt-qemu")
	if err != nil {
		return 0, 0, fmt.Errorf("the user of QEMU (install libvirt): %w", err)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// furnish makes what survives the server's power cuts.
func (s *Server) furnish(servers int) error {
	for _, d := range privateDirs {
		if err := makeDirs(0o755, s.data(d[1])); err != nil {
			return err
		}
	}
	dirs := []string{s.data("log"), s.data("etc-libvirt/qemu"), s.data("etc-libvirt/nwfilter"),
		s.data("etc-libvirt/storage"), s.data("etc-libvirt/secrets"), s.data("etc-libvirt/hooks"),
		s.data("var-cache-libvirt/qemu"), s.data("var-log-libvirt/qemu")}
	for _, d := range []string{"qemu", "images", "boot", "network", "dnsmasq"} {
		dirs = append(dirs, s.data("var-lib-libvirt", d))
	}
	if err := makeDirs(0o755, dirs...); err != nil {
		return err
	}
	files := map[string]string{
		"etc-libvirt/libvirtd.conf": s.libvirtdConf(),
		"etc-libvirt/qemu.conf":     qemuConf,
		"etc-libvirt/libvirt.conf":  "",
		"hosts":                     s.lab.hosts(servers),
		"hostname":                  s.Name() + "\n",
		"machine-id":                strings.ReplaceAll(s.HostUUID(), "-", "") + "\n",
	}
	for name, text := range files {
		if err := writeFile(s.data(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := writeFile(s.data("no-kvm"), nil, 0); err != nil {
		return err
	}
	return s.setWants(wants{Enabled: []string{Libvirtd}})
}

func (l *Lab) hosts(servers int) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	fmt.Fprintf(&b, "%s lab\n", l.opts.address(1))
	for i := 1; i <= servers; i++ {
		fmt.Fprintf(&b, "%s srv-%d\n", l.opts.address(10+i), i)
	}
	return b.String()
}

// libvirtdConf: a host UUID of its own, or libvirt refuses to migrate "to
// itself"; a socket that only root may use, as the lab has no polkit; keepalive
// so short that a lost peer is noticed in 8 seconds (2 s, 3 tries) and not 30.
func (s *Server) libvirtdConf() string {
	return fmt.Sprintf(`host_uuid = "%s"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
keepalive_interval = 2
keepalive_count = 3
log_outputs = "2:stderr"
`, s.HostUUID())
}

// qemuConf is the same on all servers. There is no AppArmor inside, no virtlogd,
// and no cgroup for libvirt to play with. Images belong to libvirt-qemu from the
// start, because two servers that chown one file fight over it.
const qemuConf = `security_driver = "none"
user = "libvirt-qemu"
group = "libvirt-qemu"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
keepalive_interval = 2
keepalive_count = 3
`

// plan is what the server's first process shall do at this power-on.
func (s *Server) plan() inside.Plan {
	p := inside.Plan{Hostname: s.Name(), LogDir: s.data("log"), QEMU: qemuPath, Wrapper: s.lab.initBinary(),
		Env: []string{"PATH=" + filepath.Dir(s.lab.opts.Agent) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8", "HOME=/root"}}
	for _, d := range privateDirs {
		p.Binds = append(p.Binds, inside.Bind{Source: s.data(d[1]), Target: d[0]})
	}
	for _, f := range []string{"hosts", "hostname", "machine-id"} {
		if _, err := os.Stat("/etc/" + f); err == nil {
			p.Binds = append(p.Binds, inside.Bind{Source: s.data(f), Target: "/etc/" + f})
		}
	}
	if _, err := os.Stat("/dev/kvm"); err == nil {
		// Guests are emulated. A KVM device that QEMU's user cannot use makes libvirt
		// probe QEMU anew, for seconds, at each start.
		p.Binds = append(p.Binds, inside.Bind{Source: s.data("no-kvm"), Target: "/dev/kvm"})
	}
	return withRun(p, s.runDir())
}

// withRun adds the private /run last: the other sources may lie below it.
func withRun(p inside.Plan, dir string) inside.Plan {
	p.Binds = append(p.Binds, inside.Bind{Source: dir, Target: "/run"})
	return p
}

// makeRun makes the server's empty /run.
func (s *Server) makeRun() error {
	if err := os.RemoveAll(s.runDir()); err != nil {
		return err
	}
	uid, gid, err := qemuUser()
	if err != nil {
		return err
	}
	for _, d := range []string{"", "lab", "lab/qmp", "libvirt", "lock"} {
		if err := makeDirs(0o755, filepath.Join(s.runDir(), d)); err != nil {
			return err
		}
	}
	return os.Chown(filepath.Join(s.runDir(), "lab/qmp"), uid, gid)
}
