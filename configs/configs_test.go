package configs

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheSampleSettingsShowTheDefaults(t *testing.T) {
	got, err := config.Load("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Pool, want.Server, want.Address = "prod", "srv-1", "10.0.0.1:7400"
	want.Storage = []config.Storage{{Path: "/srv/vms", Mount: true}}
	if want = want.Complete(); !reflect.DeepEqual(got, want) {
		t.Errorf("the sample says\n%+v\nthe defaults are\n%+v", got, want)
	}
	for _, ttl := range []time.Duration{pool.MinTTL, pool.DefaultTTL} {
		if err := got.CheckTTL(ttl); err != nil {
			t.Errorf("with lease_ttl %v: %v", ttl, err)
		}
	}
}

func TestTheSampleSettingsWithAnExternalEtcd(t *testing.T) {
	text := read(t, "config.yaml")
	for _, own := range []string{"client_port", "peer_port", "heartbeat", "election", "history", "quota_bytes"} {
		text = regexp.MustCompile(`(?m)^  `+own+`:.*$`).ReplaceAllString(text, "")
	}
	text = strings.Replace(text, "mode: embedded", "mode: external", 1)
	text = regexp.MustCompile(`(?m)^  # (endpoints|ca|cert|key|username|password_file):`).ReplaceAllString(text, "  $1:")
	c, err := config.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Etcd.Endpoints) != 3 || c.Etcd.Election != time.Second {
		t.Errorf("etcd: %+v", c.Etcd)
	}
}

func TestTheSampleSettingsNameEveryKey(t *testing.T) {
	text := read(t, "config.yaml")
	for _, key := range config.Keys() {
		last := key[strings.LastIndexByte(key, '.')+1:]
		if !regexp.MustCompile(`(?m)^ *(- |# )?` + last + `:`).MatchString(text) {
			t.Errorf("%s is missing", key)
		}
	}
}

func TestTheSampleForTheCommandLineLoads(t *testing.T) {
	c, err := config.LoadClient("client.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(c.Cert) || len(c.Servers) != 3 {
		t.Errorf("client settings: %+v", c)
	}
}

func units(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("*.service")
	if err != nil || len(all) != 3 {
		t.Fatalf("units: %v, %v", all, err)
	}
	return all
}

// The properties on which safety and recovery rest; whoever changes one should have to think.
func TestUnitsKeepWhatSafetyRestsOn(t *testing.T) {
	for unit, want := range map[string][]string{
		"holdfast-guard.service": {"OOMScoreAdjust=-1000", "Restart=always", "RestartSec=100ms", "LimitMEMLOCK=infinity",
			"CPUSchedulingPolicy=rr", "RuntimeDirectoryPreserve=yes", "StartLimitIntervalSec=0", "ExecStart=/usr/bin/holdfast-agent guard"},
		"holdfast-etcd.service": {"Restart=on-failure", "StartLimitIntervalSec=0", "ExecStart=/usr/bin/holdfast-agent etcd"},
		"holdfast-agent.service": {"KillMode=process", "Restart=always", "RuntimeDirectoryPreserve=yes", "StartLimitIntervalSec=0",
			"ExecStart=/usr/bin/holdfast-agent run"},
	} {
		lines := strings.Split(read(t, unit), "\n")
		has := func(line string) bool {
			for _, l := range lines {
				if l == line {
					return true
				}
			}
			return false
		}
		for _, w := range want {
			if !has(w) {
				t.Errorf("%s lacks %q", unit, w)
			}
		}
		// Nothing may tie their lives together.
		for _, l := range lines {
			for _, tie := range []string{"PartOf=", "BindsTo=", "Requires=", "Requisite=", "PropagatesStopTo="} {
				if strings.HasPrefix(l, tie) {
					t.Errorf("%s: %s", unit, l)
				}
			}
		}
	}
}

func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	var files []string
	for _, u := range units(t) {
		// The binary need not be installed for this.
		text := strings.ReplaceAll(read(t, u), "/usr/bin/holdfast-agent", "/bin/true")
		to := filepath.Join(dir, u)
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, to)
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "holdfast-") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}

func TestTheGuardOutlivesTheVMsAndTheAgentGoesBeforeThem(t *testing.T) {
	for unit, words := range map[string][]string{
		"holdfast-agent.service": {"After=virt-guest-shutdown.target", "After=network-online.target remote-fs.target holdfast-guard.service"},
		"holdfast-guard.service": {"Before=holdfast-agent.service virt-guest-shutdown.target libvirtd.service"},
	} {
		for _, w := range words {
			if !strings.Contains(read(t, unit), w) {
				t.Errorf("%s lacks %q", unit, w)
			}
		}
	}
}

// The agent gives up moving VMs a stop limit and 15 s before logind does; the longest usual stop limit is minutes.
func TestLogindWaitsForLongerThanGuestsNeedToShutDown(t *testing.T) {
	m := regexp.MustCompile(`(?m)^InhibitDelayMaxSec=(\d+)$`).FindStringSubmatch(read(t, "logind-holdfast.conf"))
	if m == nil {
		t.Fatal("no InhibitDelayMaxSec")
	}
	d, err := time.ParseDuration(m[1] + "s")
	if err != nil || d < 5*pool.DefaultConfig("x", "").StopLimit {
		t.Errorf("InhibitDelayMaxSec is %v (%v)", d, err)
	}
}

func TestSystemdAcceptsThatLibvirtGuestsDoesNothing(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	unit := filepath.Join(dir, "libvirt-guests.service")
	if err := os.MkdirAll(unit+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	// As libvirt ships it, apart from the program.
	text := "[Unit]\nDescription=Suspend/Resume Running libvirt Guests\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/echo start\nExecReload=/bin/echo reload\nExecStop=/bin/echo stop\nTimeoutStopSec=0\n"
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unit+".d", "holdfast.conf"), []byte(read(t, "libvirt-guests-holdfast.conf")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "libvirt-guests") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestTheAppArmorRulesAreAccepted(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("SKIPPED: no apparmor_parser on this machine")
	}
	profile := filepath.Join(t.TempDir(), "profile")
	text := "profile libvirt-some-vm flags=(attach_disconnected) {\n" + read(t, "apparmor-libvirt-qemu") + "}\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(parser, "--skip-kernel-load", "--skip-cache", profile).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
