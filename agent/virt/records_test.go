package virt

import (
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/agent/guard"
	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/agent/virt/process"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const settle = 2 * time.Second

var (
	first  = guard.Process{PID: 10, StartTicks: 1}
	second = guard.Process{PID: 11, StartTicks: 2}
)

func running(p guard.Process) seen {
	return seen{name: "vm", uuid: "u", qemu: process.QEMU{Process: p}, state: local.DomainRunning,
		marker: &local.Marker{VM: "vm", Epoch: 1}, disks: []string{"/srv/a.img"}}
}

func only(t *testing.T, r *records, now pool.Instant, connected bool) local.Domain {
	t.Helper()
	all := r.list(now, settle, connected)
	if len(all) != 1 {
		t.Fatalf("got %d domains, want 1: %+v", len(all), all)
	}
	return all[0]
}

func TestEndOfADomainIsReportedWithItsReasonUntilForgotten(t *testing.T) {
	guest := stop{exit: local.ExitGuest, detail: "off"}
	cases := map[string]struct {
		do       func(r *records)
		exit     local.Exit
		panicked bool
	}{
		"event, then death":   {func(r *records) { r.stopped("vm", "u", guest, 5); r.processEnded(first, 6) }, local.ExitGuest, false},
		"death, then event":   {func(r *records) { r.processEnded(first, 5); r.stopped("vm", "u", guest, 6) }, local.ExitGuest, false},
		"killed by us":        {func(r *records) { r.killing(first); r.processEnded(first, 5) }, local.ExitDestroyed, false},
		"guest, then no word": {func(r *records) { r.shutdown("vm", powerGuest); r.processEnded(first, 5) }, local.ExitGuest, false},
		"signal to QEMU": {func(r *records) {
			r.shutdown("vm", powerHost)
			r.stopped("vm", "u", guest, 5)
			r.processEnded(first, 6)
		}, local.ExitDestroyed, false},
		"signal to QEMU, told late": {func(r *records) {
			r.processEnded(first, 5)
			r.shutdown("vm", powerHost)
			r.stopped("vm", "u", guest, 6)
		}, local.ExitDestroyed, false},
		"panic": {func(r *records) {
			r.panickedNow("vm")
			r.stopped("vm", "u", stop{exit: local.ExitCrashed}, 5)
			r.processEnded(first, 6)
		}, local.ExitCrashed, true},
	}
	for name, c := range cases {
		r := newRecords()
		r.observe(running(first))
		c.do(r)
		d := only(t, r, 7, true)
		if d.State != local.DomainGone || d.Exit != c.exit || d.Panicked != c.panicked || d.Marker == nil || d.Process != first {
			t.Errorf("%s: got %+v", name, d)
		}
		// libvirt still lists it for a moment.
		r.observe(running(first))
		if d := only(t, r, 8, true); d.State != local.DomainGone {
			t.Errorf("%s: came back to life: %+v", name, d)
		}
		r.forget("vm")
		if all := r.list(9, settle, true); len(all) != 0 {
			t.Errorf("%s: not forgotten: %+v", name, all)
		}
	}
}

func TestWordOfAnEndThatWasForgottenAlreadyChangesNothing(t *testing.T) {
	guest := stop{exit: local.ExitGuest, detail: "off"}
	forgotten := func() *records {
		r := newRecords()
		r.observe(running(first))
		r.shutdown("vm", powerGuest)
		r.processEnded(first, 5)
		r.forget("vm")
		return r
	}
	r := forgotten()
	r.stopped("vm", "u", guest, 6)
	if all := r.list(7, settle, true); len(all) != 0 {
		t.Errorf("the same end is told twice: %+v", all)
	}
	r.stopped("vm", "u", guest, 8)
	if d := only(t, r, 9, true); d.State != local.DomainGone {
		t.Errorf("a later run that came and went: %+v", d)
	}
	for name, between := range map[string]func(*records){
		"a new run":        func(r *records) { r.started("vm") },
		"a new connection": (*records).reconnected,
	} {
		r := forgotten()
		between(r)
		r.stopped("vm", "u", guest, 6)
		if d := only(t, r, 9, true); d.State != local.DomainGone {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestEndThatNobodySawIsUnknownOnceNoEventCanCome(t *testing.T) {
	r := newRecords()
	r.observe(running(first))
	r.processEnded(first, 5)
	if d := only(t, r, 6, true); d.State != local.DomainShuttingDown {
		t.Errorf("while an event may come: %+v", d)
	}
	for name, d := range map[string]local.Domain{
		"disconnected": only(t, r, 6, false),
		"too late":     only(t, r, pool.Instant(5).Add(settle), true),
	} {
		if d.State != local.DomainGone || d.Exit != local.ExitUnknown || d.ExitDetail == "" {
			t.Errorf("%s: got %+v", name, d)
		}
	}
}

func TestStopEventAloneDoesNotEndADomainWhoseProcessLives(t *testing.T) {
	r := newRecords()
	r.observe(running(first))
	r.stopped("vm", "u", stop{exit: local.ExitDestroyed}, 5)
	r.missing("vm", 6)
	if d := only(t, r, 7, true); d.State == local.DomainGone {
		t.Errorf("got %+v", d)
	}
	r.forget("vm")
	if d := only(t, r, 8, true); d.Process != first {
		t.Errorf("a living process was forgotten: %+v", d)
	}
	r.processEnded(second, 9)
	if d := only(t, r, 10, true); d.State == local.DomainGone {
		t.Errorf("ended by the death of another process: %+v", d)
	}
}

func TestNewRunReplacesTheOldOne(t *testing.T) {
	r := newRecords()
	if !r.observe(running(first)) {
		t.Error("the first process is not watched")
	}
	if r.observe(running(first)) {
		t.Error("the same process is watched twice")
	}
	r.stopped("vm", "u", stop{exit: local.ExitGuest}, 5)
	r.processEnded(first, 5)
	if !r.observe(running(second)) {
		t.Error("the second process is not watched")
	}
	if d := only(t, r, 6, true); d.State != local.DomainRunning || d.Process != second {
		t.Errorf("got %+v", d)
	}
	// A late word about the first run does not end the second.
	r.processEnded(first, 7)
	if d := only(t, r, 8, true); d.State != local.DomainRunning {
		t.Errorf("got %+v", d)
	}
}

func TestLateWordAboutAnEarlierRunIsForgottenWhenTheNextBegins(t *testing.T) {
	r := newRecords()
	r.observe(running(second))
	r.shutdown("vm", powerGuest)
	r.panickedNow("vm")
	r.stopped("vm", "u", stop{exit: local.ExitGuest}, 5)
	r.started("vm")
	r.processEnded(second, 6)
	if d := only(t, r, 6, false); d.Exit != local.ExitUnknown || d.Panicked {
		t.Errorf("got %+v", d)
	}
}

func TestDomainWithoutAKnownProcessEndsWithItsEvent(t *testing.T) {
	r := newRecords()
	s := running(guard.Process{})
	r.observe(s)
	r.stopped("vm", "u", stop{exit: local.ExitMigrated}, 5)
	if d := only(t, r, 6, true); d.State != local.DomainGone || d.Exit != local.ExitMigrated {
		t.Errorf("got %+v", d)
	}
}

func TestDisksOfEndedOrForeignDomainsAreNotWatched(t *testing.T) {
	r := newRecords()
	r.observe(running(first))
	foreign := running(second)
	foreign.name, foreign.marker = "other", nil
	r.observe(foreign)
	if got := r.diskPaths(); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	r.processEnded(first, 5)
	if got := r.diskPaths(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestDomainThatSaidThatItLeavesIsNotAskedAboutUntilLibvirtHasPutItAway(t *testing.T) {
	r := newRecords()
	r.observe(running(first))
	r.leaves("vm", second) // another process's word
	r.mark("vm")
	if got := r.takeDirty(); len(got) != 1 {
		t.Fatalf("%v", got)
	}
	r.leaves("vm", first)
	if d := only(t, r, 5, true); d.State != local.DomainRunning {
		t.Errorf("its word is taken for its death: %+v", d)
	}
	r.processEnded(first, 6)
	if got := r.takeDirty(); len(got) != 0 {
		t.Errorf("libvirt is asked about %v, and does not answer", got)
	}
	if d := only(t, r, 7, true); d.State != local.DomainGone || d.Exit != local.ExitMigrated {
		t.Errorf("%+v", d)
	}
	if !r.putsAway("vm", 8, time.Second) {
		t.Error("a copy may come before libvirt has noticed the end")
	}
	r.forget("vm")
	if !r.putsAway("vm", 9, time.Second) || r.putsAway("vm", pool.Instant(6).Add(time.Second), time.Second) {
		t.Error("once forgotten, it is waited for with a limit")
	}
	r.stopped("vm", "u", stop{exit: local.ExitMigrated}, 9)
	if r.putsAway("vm", 10, time.Second) || len(r.list(10, settle, true)) != 0 {
		t.Error("libvirt has noticed")
	}
	if got := r.takeDirty(); len(got) != 1 {
		t.Errorf("libvirt is not asked again: %v", got)
	}
}

func TestDomainThatSaidThatItLeavesIsReadAgainOnceLibvirtAnswers(t *testing.T) {
	for name, do := range map[string]func(*records){
		"its end came":            func(r *records) { r.stopped("vm", "u", stop{exit: local.ExitMigrated}, 6) },
		"a new run began":         func(r *records) { r.started("vm") },
		"libvirt is a new one":    func(r *records) { r.reconnected() },
		"the call for it is over": func(r *records) { r.stays("vm") },
	} {
		r := newRecords()
		r.observe(running(first))
		r.leaves("vm", first)
		r.mark("vm")
		if got := r.takeDirty(); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		do(r)
		if got := r.takeDirty(); len(got) != 1 {
			t.Errorf("%s: not read again", name)
		}
	}
}
