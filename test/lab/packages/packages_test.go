package packages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/test/lab"
)

// root is a throw-away copy of this machine's file system in which packages may be installed.
type root struct {
	t   *testing.T
	dir string
}

// newRoot lays an empty layer over this machine's root: what is written there stays there.
func newRoot(t *testing.T) root {
	t.Helper()
	base, err := os.MkdirTemp("", "root") // on a file system that an overlay can write to
	if err != nil {
		t.Fatal(err)
	}
	r := root{t, filepath.Join(base, "root")}
	t.Cleanup(func() {
		for _, mounted := range []string{"proc", "dev", "."} {
			if err := unix.Unmount(filepath.Join(r.dir, mounted), unix.MNT_DETACH); err != nil && mounted == "." {
				t.Errorf("unmount the copy of the root: %v", err)
				return
			}
		}
		_ = unix.Unmount(base, unix.MNT_DETACH)
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=1g"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base)
	if err := unix.Mount("overlay", r.dir, "overlay", 0, options); err != nil {
		t.Fatalf("lay a copy over /: %v", err)
	}
	for from, to := range map[string]string{"/proc": "proc", "/dev": "dev"} {
		if err := unix.Mount(from, filepath.Join(r.dir, to), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// run runs a command in the copy and returns what it prints.
func (r root) run(args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "chroot", append([]string{r.dir}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// programs returns a folder with nothing but installed programs: the servers of a lab look there before anywhere else, and
// QEMU must come from the lab.
func (r root) programs(names ...string) string {
	r.t.Helper()
	dir := r.t.TempDir()
	for _, name := range names {
		if err := os.Symlink(filepath.Join(r.dir, "usr/bin", name), filepath.Join(dir, name)); err != nil {
			r.t.Fatal(err)
		}
	}
	return dir
}

// build makes the package from the binaries that are built already.
func build(t *testing.T) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "-C", "../../..", "-o", "build", "packages", "DIST="+out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make packages: %v\n%s", err, said)
	}
	found, err := filepath.Glob(filepath.Join(out, "*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("make packages wrote %v (%v), want one package", found, err)
	}
	return found[0]
}

func TestThePackageAndTheReadmesCommandsMakeAPoolThatProtectsAVM(t *testing.T) {
	lab.Require(t)
	deb := build(t)
	r := newRoot(t)
	data, err := os.ReadFile(deb)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "holdfast.deb"), data, 0o644) //nolint:gosec // as in a user's downloads
	}
	if err != nil {
		t.Fatal(err)
	}
	r.run("dpkg", "-i", "/holdfast.deb")
	for _, file := range []string{"/usr/bin/holdfast", "/usr/bin/holdfast-agent", "/usr/lib/systemd/system/holdfast-guard.service",
		"/usr/share/man/man8/holdfast-agent.8.gz", "/usr/share/man/man1/holdfast.1.gz",
		"/usr/share/bash-completion/completions/holdfast", "/usr/share/bash-completion/completions/holdfast-agent", "/usr/share/doc/holdfast/copyright",
		"/usr/share/man/man8/holdfast-agent-ca-rotate.8.gz", "/usr/share/holdfast/prometheus/rules.yml", "/usr/share/holdfast/prometheus/grafana.json"} {
		if info, err := os.Stat(filepath.Join(r.dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s is not installed (%v)", file, err)
		}
	}
	if said := r.run("holdfast", "--version"); !strings.HasPrefix(said, "holdfast ") {
		t.Errorf("holdfast --version says %q", said)
	}
	r.run("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/holdfast-agent.service",
		"/usr/lib/systemd/system/holdfast-guard.service", "/usr/lib/systemd/system/holdfast-etcd.service")

	formsAPool(t, r.programs("holdfast", "holdfast-agent", "holdfast-console"))

	r.run("dpkg", "--purge", "holdfast")
	for _, gone := range []string{"/usr/bin/holdfast-agent", "/etc/holdfast", "/var/lib/holdfast"} {
		if _, err := os.Stat(filepath.Join(r.dir, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is still there after a purge (%v)", gone, err)
		}
	}
}
