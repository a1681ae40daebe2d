//go:build libvirt_dlopen

package virt

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// road is two servers of this machine and the way between them: relays in place of the mesh.
type road struct {
	t        *testing.T
	from, to *daemon
	a, b     *Adapter
	link     local.Link

	mu    sync.Mutex
	conns []net.Conn
}

func newRoad(t *testing.T) *road {
	t.Helper()
	r := &road{t: t, from: startDaemon(t), to: startDaemon(t)}
	monitors := r.monitors()
	r.a = r.from.adapter(func(o *Options) { o.UnsafeMigration, o.MonitorDir = true, monitors }) // the disk is shared: it is one file
	r.b = r.to.adapter(func(o *Options) { o.UnsafeMigration = true })
	r.link = local.Link{Libvirt: "/run/m/libvirt", Stream: "/run/m/stream"}
	for _, d := range []*daemon{r.from, r.to} {
		if err := os.Mkdir(filepath.Join(d.dir, "run/m"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.relay(filepath.Join(r.from.dir, r.link.Libvirt), r.to.socket())
	r.relay(filepath.Join(r.from.dir, r.link.Stream), filepath.Join(r.to.dir, r.link.Stream))
	return r
}

// monitors makes the directory of second monitors, which has the same path on both servers and is another on each.
func (r *road) monitors() string {
	r.t.Helper()
	dir, other := filepath.Join(r.from.dir, "qmp"), filepath.Join(r.to.dir, "qmp")
	for _, d := range []string{dir, other} {
		if err := os.Mkdir(d, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	mount := exec.Command("nsenter", "-t", strconv.Itoa(r.to.holder.Process.Pid), "-m", "mount", "--bind", other, dir)
	if out, err := mount.CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// relay carries connections from one socket to another.
func (r *road) relay(from, to string) {
	r.t.Helper()
	l, err := net.Listen("unix", from)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, near, far)
			r.mu.Unlock()
			go carry(near, far)
			go carry(far, near)
		}
	}()
}

func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from) // its end is all that matters
	_ = to.Close()
	_ = from.Close()
}

// cut breaks all connections between the two.
func (r *road) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// moving starts to migrate a guest and returns once its memory is on its way.
func (r *road) moving(g guest, m local.Migration) <-chan outcome[local.Transfer] {
	r.t.Helper()
	ctx := r.t.Context()
	done := make(chan outcome[local.Transfer], 1)
	go func() {
		t, err := r.a.Migrate(ctx, m)
		done <- outcome[local.Transfer]{t, err}
	}()
	within(r.t, 20*time.Second, "the job runs", func() bool {
		j, err := r.a.Job(ctx, g.vm())
		return err == nil && j.Running && j.BytesTotal > 0
	})
	until(r.t, r.b, g.name, local.DomainIncoming)
	return done
}

func (r *road) migration(g guest) local.Migration {
	marker := g.marker
	marker.Operation = "op-1"
	return local.Migration{VM: g.vm(), Operation: "op-1", To: "srv-2", Marker: marker, Link: r.link}
}

// slow is so little that the copy of the smallest guest lasts for seconds.
const slow = 1 << 20

func result(t *testing.T, done <-chan outcome[local.Transfer]) (local.Transfer, error) {
	t.Helper()
	select {
	case o := <-done:
		return o.value, o.err
	case <-time.After(60 * time.Second):
		t.Fatal("the call does not come back")
		return local.Transfer{}, nil
	}
}

func TestNoMigrationWhileABlockJobRuns(t *testing.T) {
	r := newRoad(t)
	g := r.from.guest("copied", 250, obeys)
	start(t, r.a, g)
	dom, err := r.from.connect().LookupDomainByName(g.name)
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(r.from.dir, "copy.img")
	if err := dom.BlockCopy("vda", "<disk type='file'><driver type='raw'/><source file='"+dest+"'/></disk>", &libvirt.DomainBlockCopyParameters{}, libvirt.DOMAIN_BLOCK_COPY_TRANSIENT_JOB); err != nil {
		t.Fatal(err)
	}
	if _, err := r.a.Migrate(t.Context(), r.migration(g)); !errors.Is(err, pool.ErrRefused) || !strings.Contains(err.Error(), "job") {
		t.Errorf("%v, want refused for the job", err)
	}
	if err := dom.BlockJobAbort("vda", 0); err != nil {
		t.Fatal(err)
	}
	if got, err := r.a.Migrate(t.Context(), r.migration(g)); err != nil || !got.Clean {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestGuestHasLeftAsSoonAsItsQEMUSaysSoAndIsDead(t *testing.T) {
	r := newRoad(t)
	g := r.from.guest("hasty", 260, obeys)
	was := start(t, r.a, g)
	until(t, r.a, g.name, local.DomainRunning)
	got, err := r.a.Migrate(t.Context(), r.migration(g))
	if err != nil || !got.Clean || got.Rest == nil {
		t.Fatalf("%+v, %v; want a clean transfer before libvirt has returned", got, err)
	}
	if dead, err := r.a.Dead(t.Context(), was.Process); err != nil || !dead {
		t.Errorf("dead %v, %v", dead, err)
	}
	began := time.Now()
	if d := until(t, r.a, g.name, local.DomainGone); d.Exit != local.ExitMigrated {
		t.Errorf("%+v", d)
	}
	t.Logf("known to be gone after %v", time.Since(began))
	if d := until(t, r.b, g.name, local.DomainPaused); d.Marker == nil || d.Marker.Operation != "op-1" {
		t.Errorf("copy: %+v", d)
	}
	r.a.Forget(g.vm())
	away := func() bool {
		yes, err := r.a.PutsAway(t.Context(), g.vm())
		return err == nil && !yes
	}
	if away() {
		t.Error("libvirt's call has not returned, and a copy could come back")
	}
	got.Rest(t.Context())
	within(t, 10*time.Second, "a copy could come back", away)
	if all, err := r.a.Domains(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestGuestRunsOnWhenTheWayToTheDestinationBreaks(t *testing.T) {
	r := newRoad(t)
	g := r.from.guest("tough", 230, obeys)
	was := start(t, r.a, g)
	until(t, r.a, g.name, local.DomainRunning)
	m := r.migration(g)
	m.Bandwidth = slow
	done := r.moving(g, m)
	r.cut()
	if got, err := result(t, done); err == nil && got.Clean {
		t.Errorf("a broken migration is taken for a clean one: %+v", got)
	} else {
		t.Log(err)
	}
	if now := until(t, r.a, g.name, local.DomainRunning); now.Process != was.Process {
		t.Errorf("%+v", now)
	}
	until(t, r.b, g.name, local.DomainGone)
}
