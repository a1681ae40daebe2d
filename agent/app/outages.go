package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-ha/holdfast/agent/failsafe"
	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Kinds of event that tell of an outage of etcd which VMs were let run on through, by promises: to its end, or not.
const (
	eventFailsafeHeld  = "FAILSAFE_HELD"
	eventFailsafeEnded = "FAILSAFE_ENDED"
)

// mostNamed bounds the VMs that one event names.
const mostNamed = 8

// outages are those that the pool's history does not tell of yet.
type outages struct {
	wake clock.Signal

	mu   sync.Mutex
	list []failsafe.Outage
}

func newOutages(c clock.Clock) *outages { return &outages{wake: c.NewSignal()} }

// add has an outage written into the history.
func (o *outages) add(out failsafe.Outage) {
	o.mu.Lock()
	o.list = append(o.list, out)
	o.mu.Unlock()
	o.wake.Set()
}

func (o *outages) take() []failsafe.Outage {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.list
	o.list = nil
	return list
}

// tellOutages writes one event for each outage of etcd that VMs of this server lived through by promises: once, when etcd
// is back.
func (a *Agent) tellOutages(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, out := range a.outages.take() {
			a.tellOutage(ctx, out)
		}
		a.outages.wake.Wait(ctx, -1)
	}
	return nil
}

// tellOutage writes one event. It has its name before it is tried, so that a write whose answer was lost is not repeated.
func (a *Agent) tellOutage(ctx context.Context, out failsafe.Outage) {
	kind, text := outageText(a.cfg.Server, out)
	e := a.data.named(pool.Event{At: a.e.Clock.Wall(), Kind: kind, Server: a.cfg.Server, Actor: "agent " + string(a.cfg.Server), Text: text})
	k := a.data.store.Keys()
	for ctx.Err() == nil {
		wctx, cancel := a.e.Clock.WithTimeout(ctx, applyLimit)
		_, err := a.data.store.Commit(wctx, kv.Txn{If: []kv.Compare{k.EventAbsent(e.ID)}, Then: []kv.Op{k.PutEvent(e)}})
		cancel()
		if err == nil || errors.Is(err, pool.ErrStale) {
			return
		}
		a.e.Log.Debug("the history lacks an outage", "err", err)
		if a.e.Clock.Sleep(ctx, retryOutage) != nil {
			return
		}
	}
}

// retryOutage is the pause before an event is tried again.
const retryOutage = time.Second

// outageText says what happened: who, since when, for how long, and by what VMs ran on.
func outageText(server pool.ServerID, out failsafe.Outage) (kind, text string) {
	since := fmt.Sprintf("etcd did not answer %s for %v, since %s", server, out.Lasted.Round(time.Second), out.Since.UTC().Format("15:04:05 UTC"))
	by := "nobody else may lead"
	if len(out.By) > 0 {
		by = list(out.By) + " promised not to lead"
	}
	if out.Ended == 0 {
		return eventFailsafeHeld, fmt.Sprintf("%s; %s ran on, as %s", since, list(out.VMs), by)
	}
	return eventFailsafeEnded, fmt.Sprintf("%s; %s ran on for %v, as %s, and then met the stop time: %s", since, list(out.VMs),
		out.Ended.Round(time.Second), by, out.Why)
}

// list names the first few of some.
func list[T ~string](all []T) string {
	var names []string
	for _, n := range all[:min(len(all), mostNamed)] {
		names = append(names, string(n))
	}
	if more := len(all) - mostNamed; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if n := len(names); n > 1 {
		names = slices.Concat(names[:n-2], []string{names[n-2] + " and " + names[n-1]})
	}
	return strings.Join(names, ", ")
}

// stopTime is the stop time that the lease of the present session gives by itself; 0 without one.
func (a *Agent) stopTime() pool.Instant {
	s := a.current()
	if s == nil {
		return 0
	}
	info, _ := s.Current()
	return info.KillAt
}
