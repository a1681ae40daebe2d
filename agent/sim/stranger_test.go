package sim

import (
	"bytes"
	"strings"
	"testing"
)

// plays runs a text with several seeds; want is part of the failure that it must end with, empty for none.
func plays(t *testing.T, text, want string) {
	t.Helper()
	for seed := range uint64(4) {
		r := Run(parse(t, text), Options{Seed: seed})
		switch {
		case want == "" && r.Err != nil:
			t.Errorf("seed %d: %v\n%s", seed, r.Err, text)
		case want != "" && (r.Err == nil || !strings.Contains(r.Err.Error(), want)):
			t.Errorf("seed %d: %v, want a failure of %q\n%s", seed, r.Err, want, text)
		}
	}
}

func TestWhatAgentsReportGetsTheTimeOfAnAnswer(t *testing.T) {
	const three = "servers s1 s2 s3\nvm web on=s1 restarts=0 relocations=0\n"
	plays(t, three+"at 5s vm crash web\nby 10s expect web failed\nexpect alert \"web has failed\"\nhold 5s web failed and not no alerts\n", "")
	plays(t, three+"at 5s stop web\nby 20s expect web stopped\nexpect operation done\nafter 0s start web\nby 40s expect web running\nexpect operation done\n", "")
	plays(t, three+"at 5s migrate web s2\nafter 0s migrate web s3\nexpect refused \"under way\"\n", "")
	plays(t, three+"at 5s vm crash web\nby 10s expect web failed\nexpect web running\n", "expected web running")
	plays(t, three+"at 5s stop web\nafter 1s expect operation done\n", "expected operation done")
}

func TestTheLatestOperationIsNotTheLatestCommand(t *testing.T) {
	const three = "servers s1 s2 s3\nvm web on=s1\nvm db on=s1 require=s1\n"
	plays(t, three+"at 5s migrate web s2\nat 6s set web priority=low\nexpect not operation done\nby 60s expect operation done\nexpect web running on s2\n", "")
	plays(t, three+"at 5s migrate db s2\nexpect refused and operation failed \"require\" and not operation done\n", "")
	plays(t, three+"at 5s inbound-lock on s2\nexpect accepted and operation done\n", "")
	plays(t, three+"at 5s reboot s2\nexpect accepted and not operation done\nby 60s expect operation done\nby 61s expect s2 up\nat 70s shutdown s2\nby 90s expect operation done\nexpect s2 off\n", "")
}

func TestAFaultWithNothingToBefallDoesNothing(t *testing.T) {
	plays(t, "servers s1 s2\nvm web on=s1 state=stopped\nat 5s vm crash web\nat 6s guest panic web\nat 7s guest shutdown web\nhold 5s web stopped\nexpect web starts = 0\n", "")
}

func TestAGuestRunsThroughItsLiveMove(t *testing.T) {
	plays(t, "servers s1 s2\nvm web on=s1\nat 5s migrate web s2\nhold 60s web running on s1,s2 and not web paused\nexpect web migrations = 1\nnever not web running\n", "")
}

func TestNamesComeOutAsTheyWereWritten(t *testing.T) {
	long := "n" + strings.Repeat("-long", 20)
	text := "servers _a -b .c " + long + "\nvm _v on=_a apart=_g\nvm " + long + "2 on=_a require=_a apart=_g2\n" +
		"at 5s power off _a\nby 30s expect _v running on -b,.c," + long + "\nexpect alert \"" + long + "2\" and _a lost\nat 40s split _a,-b,.c/" + long + "\n"
	plays(t, text, "")
	plays(t, text+"expect _v running on _a\n", "expected _v running on _a; seen: _v executes on ")
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := Main([]string{"-v", write(t, dir, "x.scenario", text)}, &out, &errs); code != ExitHeld {
		t.Fatal(code, out.String(), errs.String())
	}
	for _, l := range []string{"_a loses power", "_v ends on _a", "_v starts on "} {
		if !strings.Contains(out.String(), "s  "+l) {
			t.Errorf("no line %q in\n%s", l, out.String())
		}
	}
	errs.Reset()
	if code := Main([]string{write(t, dir, "y.scenario", "servers _a\nvm _v on=_b\n")}, &out, &errs); code != ExitWrong || !strings.Contains(errs.String(), `y.scenario:2: vm _v: "_b" is not`) {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func TestAWrongFileAmongOthersCountsAsFailedAndTheOthersRun(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "good.scenario", "servers s1\nat 1s expect s1 up\n")
	write(t, dir, "wrong.scenario", "servers s1\nat 1s expect s1 upp\n")
	var out, errs bytes.Buffer
	if code := Main([]string{dir}, &out, &errs); code != ExitWrong || !strings.Contains(out.String(), "1 passed, 1 failed") || !strings.Contains(errs.String(), "wrong.scenario:2:") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
	out.Reset()
	if code := Main([]string{"--json", dir}, &out, &errs); code != ExitWrong || !strings.Contains(out.String(), `"wrong":true`) || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

func TestTheTimeLineReadsLikeAReport(t *testing.T) {
	var out, errs bytes.Buffer
	path := write(t, t.TempDir(), "x.scenario", "servers s1 s2 s3\nleader s2\nvm web on=s1\nat 5s maintenance enter s1\nby 60s expect s1 maintenance\nat 70s cut s2\nby 90s expect leader not s2\nat 100s shutdown s3\nby 130s expect s3 off\n")
	if code := Main([]string{"-v", path}, &out, &errs); code != ExitHeld {
		t.Fatal(code, out.String(), errs.String())
	}
	for _, l := range []string{
		"0.000s  the pool stands: s1 (web), s2, s3; s2 leads\n", "s1 is in maintenance", "the session of s2 has ended: its lease has expired",
		"the session of s3 has ended: it was given back", "s3 is about to shut down",
	} {
		if !strings.Contains(out.String(), l) {
			t.Errorf("no %q in\n%s", l, out.String())
		}
	}
	if strings.Contains(out.String(), "as asked") || strings.Contains(out.String(), "operator asked") {
		t.Errorf("empty words:\n%s", out.String())
	}
}
