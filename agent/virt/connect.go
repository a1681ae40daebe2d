//go:build libvirt_dlopen

package virt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Pauses between tries to connect. A restarted daemon answers after 0.26 s (docs/facts.md).
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// addresses returns the URIs to try, in order.
func (a *Adapter) addresses() ([]string, error) {
	if a.opt.URI != "" {
		return []string{a.opt.URI}, nil
	}
	var found []string
	for _, s := range a.opt.Sockets {
		if _, err := os.Stat(s); err == nil {
			found = append(found, "qemu+unix:///system?socket="+s)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no libvirt daemon: none of %s exists; is virtqemud or libvirtd running? %w",
			strings.Join(a.opt.Sockets, ", "), pool.ErrUnavailable)
	}
	return found, nil
}

// dial connects to the first daemon that answers: a socket may be left of one that is not used any more. It may hang
// as long as a daemon does.
func (a *Adapter) dial() (*libvirt.Connect, error) {
	if err := loop(); err != nil {
		return nil, err
	}
	all, err := a.addresses()
	if err != nil {
		return nil, err
	}
	var failed error
	for _, uri := range all {
		conn, err := a.dialTo(uri)
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

func (a *Adapter) dialTo(uri string) (*libvirt.Connect, error) {
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", uri, failure(err, true))
	}
	if err := conn.SetKeepAlive(int(a.opt.KeepAlive/time.Second), uint(a.opt.KeepAliveCount)); err != nil {
		a.shut(conn)
		return nil, fmt.Errorf("connect to %s: %w", uri, failure(err, true))
	}
	a.mu.Lock()
	a.uri = uri
	a.mu.Unlock()
	return conn, nil
}

// open connects for a call; at once an error while the connection for events is down.
func (a *Adapter) open() (*libvirt.Connect, error) {
	if err := a.downNow(); err != nil {
		return nil, err
	}
	return a.dial()
}

func (a *Adapter) downNow() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down == nil {
		return nil
	}
	return fmt.Errorf("libvirt is not reachable (%s): %w", a.down.Error(), pool.ErrUnavailable)
}

func (a *Adapter) shut(conn *libvirt.Connect) {
	if _, err := conn.Close(); err != nil {
		a.opt.Log.Debug("close libvirt connection", "err", err)
	}
}

func usable(conn *libvirt.Connect) bool {
	alive, err := conn.IsAlive()
	return err == nil && alive
}

// eventLink is one connection for events.
type eventLink struct {
	conn      *libvirt.Connect
	callbacks []int
	closed    chan libvirt.ConnectCloseReason
	version   string
}

// link keeps one connection for events until ctx ends.
func (a *Adapter) link(ctx context.Context) error {
	pause := firstPause
	var pending chan outcome[*eventLink] // a try that hangs: there is never a second one beside it
	for ctx.Err() == nil {
		if pending == nil {
			pending = make(chan outcome[*eventLink], 1)
			go func(to chan outcome[*eventLink]) {
				l, err := a.subscribe()
				to <- outcome[*eventLink]{l, err}
			}(pending)
		}
		var o outcome[*eventLink]
		select {
		case o = <-pending:
			pending = nil
		case <-ctx.Done():
			go a.abandon(pending)
			return nil
		case <-time.After(a.opt.CallLimit):
			a.setDown(errors.New("the libvirt daemon accepts connections but does not answer"))
			continue
		}
		if o.err != nil {
			a.setDown(o.err)
			_ = a.clock.Sleep(ctx, pause) // ends early only with ctx
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		a.serve(ctx, o.value)
	}
	return nil
}

// abandon closes a connection that nobody waits for any more.
func (a *Adapter) abandon(pending chan outcome[*eventLink]) {
	if o := <-pending; o.err == nil {
		o.value.drop(a)
	}
}

// serve marks the adapter connected until the connection breaks or ctx ends.
func (a *Adapter) serve(ctx context.Context, l *eventLink) {
	a.setUp(l.version)
	select {
	case reason := <-l.closed:
		a.setDown(fmt.Errorf("connection lost: %s", closeReason(reason)))
	case <-ctx.Done():
		a.setDown(errors.New("stopped"))
	}
	// Closing waits for the daemon, if that hangs.
	go l.drop(a)
}

func (l *eventLink) drop(a *Adapter) {
	for _, id := range l.callbacks {
		_ = l.conn.DomainEventDeregister(id) // a broken connection has none left
	}
	_ = l.conn.UnregisterCloseCallback() // likewise
	a.shut(l.conn)
}

func (a *Adapter) setUp(version string) {
	a.calls.renew()
	a.records.reconnected()
	a.mu.Lock()
	a.down, a.version, a.stale = nil, version, true
	a.monitorsTried = false           // so may its security module's rules
	a.answers = map[question]string{} // QEMU may have been replaced with the daemon
	uri := a.uri
	a.mu.Unlock()
	a.opt.Log.Info("libvirt connected", "uri", uri, "version", version)
	a.changed.Set()
	a.clock.Go("libvirt warm-up", a.warmUp)
}

// warmUp has libvirt probe QEMU now, which takes up to 4 s after a boot (docs/facts.md), rather than at the first
// failover to this server.
func (a *Adapter) warmUp() {
	r := request{what: "probe QEMU", limit: a.opt.StartLimit, reads: true}
	_, err := run(a.life, a.calls, r, func(conn *libvirt.Connect) (string, error) {
		text, err := conn.GetDomainCapabilities("", "", "", "", 0)
		return text, failure(err, true)
	})
	if err != nil && a.life.Err() == nil {
		a.opt.Log.Warn("probing QEMU", "err", err)
	}
	if a.opt.MonitorDir != "" {
		a.monitorsReady(a.life)
	}
}

func (a *Adapter) setDown(why error) {
	a.moves.lost()
	a.mu.Lock()
	same := a.down != nil && a.down.Error() == why.Error()
	a.down = why
	a.mu.Unlock()
	if !same {
		a.opt.Log.Warn("libvirt is not reachable", "reason", why)
		a.changed.Set()
	}
}

func closeReason(r libvirt.ConnectCloseReason) string {
	switch r {
	case libvirt.CONNECT_CLOSE_REASON_EOF:
		return "the daemon ended"
	case libvirt.CONNECT_CLOSE_REASON_KEEPALIVE:
		return "the daemon does not answer"
	case libvirt.CONNECT_CLOSE_REASON_CLIENT:
		return "closed here"
	}
	return "error"
}
