package lab

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCgroup2IsFoundOnPureAndHybridMachines(t *testing.T) {
	for line, want := range map[string]string{
		"29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate":    "/sys/fs/cgroup",
		"42 30 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw":              "/sys/fs/cgroup/unified",
		"31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu":                "",
		"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard":                             "",
		"30 23 0:26 / /sys/fs/cgroup rw,relatime shared:4 - tmpfs tmpfs rw,mode=755 broken": "",
	} {
		got, ok := cgroup2Mount(line)
		if got != want || ok != (want != "") {
			t.Errorf("cgroup2Mount(%q) = %q, %v; want %q", line, got, ok, want)
		}
	}
}

func TestCutsBecomeSilentDropsThatSpareTheLoopback(t *testing.T) {
	o := Options{EtcdPorts: []int{2379, 2380}, PeerPorts: []int{7400}}
	address := func(server string) (string, error) {
		if server != "srv-2" {
			return "", errors.New("no such server")
		}
		return "10.77.0.12", nil
	}
	got, err := o.rules([]Cut{CutEtcd, CutFrom("srv-2"), CutIn}, address)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"delete table inet holdfast_lab\n", `iifname "lo" accept`, `oifname "lo" accept`,
		"tcp dport { 2379, 2380 } drop", "tcp sport { 2379, 2380 } drop",
		"ip saddr 10.77.0.12 drop", "ip daddr 10.77.0.12 drop", "\n    drop\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("rules lack %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "7400") || strings.Contains(got, "reject") {
		t.Errorf("rules cut too much or answer:\n%s", got)
	}
	healed, err := o.rules(nil, address)
	if err != nil || strings.Contains(healed, "chain") {
		t.Errorf("no cuts still leave rules: %v\n%s", err, healed)
	}
	if _, err := o.rules([]Cut{CutFrom("srv-9")}, address); err == nil {
		t.Error("a cut from an unknown server is accepted")
	}
}

func TestWordsOfACutAreChecked(t *testing.T) {
	for words, want := range map[string]Cut{"": CutAll, "etcd": CutEtcd, "peers": CutPeers, "in": CutIn, "from srv-2": CutFrom("srv-2")} {
		if got, err := ParseCut(strings.Fields(words)...); err != nil || got != want {
			t.Errorf("ParseCut(%q) = %q, %v; want %q", words, got, err, want)
		}
	}
	for _, words := range []string{"ectd", "from", "etcd peers", "from a b"} {
		if got, err := ParseCut(strings.Fields(words)...); err == nil {
			t.Errorf("ParseCut(%q) = %q, want an error", words, got)
		}
	}
}

func TestInitramfsIsReadByCpio(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Log("no cpio here: only the form is checked")
	}
	var a archive
	a.dir("modules")
	a.file("init", []byte("hello"))
	raw := a.bytes()
	if len(raw)%4 != 0 || !bytes.HasPrefix(raw, []byte("070701")) || !bytes.Contains(raw, []byte("TRAILER!!!")) {
		t.Fatalf("not a newc archive: %q", raw)
	}
	if len(raw) != 4*((110+8+3)/4)+4*((110+5+3)/4)+8+4*((110+11+3)/4) {
		t.Errorf("archive of %d bytes has wrong padding", len(raw))
	}
	cmd := exec.Command("cpio", "-it")
	cmd.Stdin = bytes.NewReader(raw)
	if out, err := cmd.Output(); err == nil && string(out) != "modules\ninit\n" {
		t.Errorf("cpio lists %q", out)
	}
}

func TestDomainNamesNothingOfTheLab(t *testing.T) {
	l := &Lab{opts: Options{Name: "x"}}
	vm := l.complete(VM{Name: "a<b", DirtyMiB: 8, KernelArgs: "k=v"})
	got, err := renderDomain(vm, GuestBoot{Kernel: "/k", Initrd: "/i"})
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Name   string `xml:"name"`
		UUID   string `xml:"uuid"`
		Memory int    `xml:"memory"`
		OS     struct {
			Cmdline string `xml:"cmdline"`
		} `xml:"os"`
		Disk struct {
			Source struct {
				File string `xml:"file,attr"`
			} `xml:"source"`
		} `xml:"devices>disk"`
	}
	if err := xml.Unmarshal([]byte(got), &d); err != nil {
		t.Fatalf("%v in\n%s", err, got)
	}
	if d.Name != "a<b" || d.UUID != UUID("a<b") || d.Memory != 96 || d.Disk.Source.File != "/var/lib/holdfast-lab-x/shared/a<b.img" {
		t.Errorf("domain is %+v", d)
	}
	if !strings.HasSuffix(d.OS.Cmdline, " hf.dirty=8 hf.dirtyset=16 k=v") {
		t.Errorf("kernel arguments %q", d.OS.Cmdline)
	}
	if strings.Contains(got, "qmp") || strings.Contains(got, "qemu:") {
		t.Errorf("the domain tells of the lab's instruments:\n%s", got)
	}
}

func TestQEMUIsRecognisedByItsPrivateSocket(t *testing.T) {
	line := func(words ...string) []byte { return []byte(strings.Join(words, "\x00") + "\x00") }
	got, ok := parseQEMU(line("/usr/bin/qemu-system-x86_64", "-name", "guest=vm-1,debug-threads=on", "-uuid", "u-1",
		"-incoming", "defer", "-qmp", "unix:/run/lab/qmp/42.watch,server=on,wait=off"))
	if want := (QEMU{VM: "vm-1", UUID: "u-1", Inner: 42, Incoming: true}); !ok || got != want {
		t.Errorf("parseQEMU = %+v, %v; want %+v", got, ok, want)
	}
	if _, ok := parseQEMU(line("/usr/bin/qemu-system-x86_64", "-name", "guest=vm-1,debug-threads=on")); ok {
		t.Error("the wrapper, before it is QEMU, counts as QEMU")
	}
	if _, ok := parseQEMU(line("libvirtd", "--config", "x")); ok {
		t.Error("libvirtd counts as QEMU")
	}
}

func TestTimelineShowsAVMThatExecutedTwice(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	a := &Life{QEMU: QEMU{VM: "v", UUID: "1", Server: "srv-1"}}
	b := &Life{QEMU: QEMU{VM: "v", UUID: "1", Server: "srv-2"}}
	c := &Life{QEMU: QEMU{VM: "w", UUID: "2", Server: "srv-2"}}
	c.set(true, at(0))
	a.set(true, at(0))
	a.set(false, at(100))
	b.set(true, at(100))
	if got := overlaps([]*Life{a, b, c}, at(500)); len(got) != 0 {
		t.Fatalf("hand-over without overlap is reported: %v", got)
	}
	a.set(true, at(200)) // the old copy wakes up
	b.set(false, at(350))
	a.set(true, at(360))
	got := overlaps([]*Life{a, b, c}, at(500))
	if len(got) != 1 || got[0].From != at(200) || got[0].For != 150*time.Millisecond {
		t.Fatalf("overlaps = %v, want one from 200 ms for 150 ms", got)
	}
	if s := got[0].String(); !strings.Contains(s, "srv-1") || !strings.Contains(s, "srv-2") {
		t.Errorf("overlap reads %q", s)
	}
}

func TestTimelineNeverRunsBackwards(t *testing.T) {
	t0 := time.Now()
	l := &Life{}
	l.set(false, t0)
	l.set(true, t0.Add(time.Second))
	l.set(false, t0) // an older report arrives late
	l.set(true, t0)
	if len(l.Spans) != 2 || l.Spans[0].To.Before(l.Spans[0].From) || l.Spans[1].From.Before(l.Spans[0].To) {
		t.Errorf("spans %v", l.Spans)
	}
}

func TestLabNamesStayShortEnoughForLinks(t *testing.T) {
	for _, name := range []string{"toolong1", "UP", "a-b", "a/b"} {
		if _, err := (Options{Name: name}).complete(); err == nil {
			t.Errorf("lab name %q is accepted", name)
		}
	}
	o, err := Options{Name: "abcdef"}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(o.link(MaxServers)); n > 15 {
		t.Errorf("link name of %d characters, 15 fit", n)
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := waitFor(ctx, time.Millisecond, func() (bool, error) { return false, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("waitFor = %v, want context.Canceled", err)
	}
	boom := errors.New("boom")
	if err := waitFor(t.Context(), time.Millisecond, func() (bool, error) { return false, boom }); !errors.Is(err, boom) {
		t.Errorf("waitFor = %v, want boom", err)
	}
}

func TestEveryProcessOfAServerHasADistinctName(t *testing.T) {
	var names []string
	for _, p := range (&Server{lab: &Lab{}, number: 1}).table() {
		if slices.Contains(names, p.Name) {
			t.Errorf("two processes named %s", p.Name)
		}
		names = append(names, p.Name)
	}
	if want := []string{Libvirtd, Etcd, Guard, Agent}; !slices.Equal(names, want) {
		t.Errorf("processes %v, want %v", names, want)
	}
}
