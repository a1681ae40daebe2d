package sim

import (
	"strings"
	"testing"
)

// toldOf plays a scenario and returns what the pool's history says of outages of etcd, by kind of event and server.
func toldOf(t *testing.T, text string) map[string]string {
	t.Helper()
	p := settled(t, text)
	if err := p.Play(NewChecker(p)); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, e := range p.Snapshot().Events.All() {
		if !strings.HasPrefix(e.Kind, "FAILSAFE_") {
			continue
		}
		t.Log(e.Text)
		key := e.Kind + " " + string(e.Server)
		if told[key] != "" {
			t.Errorf("%s is told twice: %s; %s", key, told[key], e.Text)
		}
		told[key] = e.Text
	}
	return told
}

// says checks that a text has all of the parts.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not say %q", text, p)
		}
	}
}

const promisePool = "servers s1 s2 s3\nleader s1\nvm a on=s1\nvm b on=s2\nvm b2 on=s2\nvm free on=s3 ha=off\n"

func TestAnOutageThatPromisesBridgedIsInTheHistoryOnceForEachServerWhoseVMsRanOn(t *testing.T) {
	told := toldOf(t, promisePool+"at 10s etcd down\nhold 10m a running on s1 and b running on s2\nafter 0s etcd up\nhold 60s a running on s1\nexpect a starts = 1\n")
	if len(told) != 2 {
		t.Fatalf("%d events, want one of s1 and one of s2: s3 has no protected VM", len(told))
	}
	says(t, told["FAILSAFE_HELD s1"], "etcd did not answer s1 for ", "since ", "a ran on", "s2 and s3 promised not to lead")
	says(t, told["FAILSAFE_HELD s2"], "b and b2 ran on", "s1 and s3 promised not to lead")
}

func TestAnOutageThatPromisesDidNotBridgeTellsHowLongAndWhoWasMissing(t *testing.T) {
	told := toldOf(t, promisePool+"at 10s etcd down\nat 60s power off s3\nby 68s expect not a running and not b running\nat 120s etcd up\nby 150s expect a running and b running\n")
	if len(told) != 2 {
		t.Fatalf("%d events, want one of s1 and one of s2", len(told))
	}
	says(t, told["FAILSAFE_ENDED s1"], "etcd did not answer s1 for 1m", "a ran on for ", "and then met the stop time: s3: does not answer")
}

func TestAnOutageThatTheLeasesOutlivedIsNoEvent(t *testing.T) {
	if told := toldOf(t, promisePool+"at 10s etcd down\nat 12s etcd up\nhold 60s a running on s1\n"); len(told) != 0 {
		t.Errorf("told: %v", told)
	}
}

func TestServersCutFromAHealthyEtcdTellOfItWithTheirNewSessions(t *testing.T) {
	told := toldOf(t, promisePool+"at 10s cut s1 etcd\nat 10s cut s2 etcd\nat 10s cut s3 etcd\nhold 5m a running on s1\nafter 0s heal all\nhold 60s a running on s1\nexpect a starts = 1\n")
	says(t, told["FAILSAFE_HELD s1"], "a ran on")
	says(t, told["FAILSAFE_HELD s2"], "b and b2 ran on")
	if got := len(told); got != 2 {
		t.Errorf("%d events", got)
	}
}

func TestManyVMsAreCountedAndAFewNamed(t *testing.T) {
	var text strings.Builder
	text.WriteString("servers s1 s2 s3\nleader s1\n")
	for _, n := range "abcdefghijkl" {
		text.WriteString("vm v" + string(n) + " on=s1 memory=256M\n")
	}
	text.WriteString("at 10s etcd down\nafter 60s etcd up\n")
	says(t, toldOf(t, text.String())["FAILSAFE_HELD s1"], "va, vb,", "vh and 4 more ran on")
}
