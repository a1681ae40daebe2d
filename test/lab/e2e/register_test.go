package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestRunningDomainIsAdoptedWithoutARestart(t *testing.T) {
	b := prepare(t)
	home := b.other(b.leader())
	s := b.server(home)
	for _, persistent := range []bool{false, true} {
		vm := b.name("transient")
		if persistent {
			vm = b.name("persistent")
		}
		xml := b.define(lab.VM{Name: vm})
		if persistent {
			b.must(s.Define(within(t, 10*time.Second), xml))
			_, err := s.Virsh(within(t, 10*time.Second), "start", vm)
			b.must(err)
		} else {
			b.must(s.StartTransient(within(t, 10*time.Second), xml))
		}
		b.rising(vm)
		out, err := s.Exec(within(t, 20*time.Second), "holdfast", "vm", "register", vm)
		b.must(err)
		t.Logf("holdfast vm register %s: %s", vm, strings.TrimSpace(out))
		v, err := b.p.UntilStatus(within(t, 10*time.Second), vm, pb.VMStatus_VM_STATUS_RUNNING)
		b.must(err)
		if got := v.GetClaim().GetServer(); got != home {
			t.Errorf("%s is claimed by %s, want %s", vm, got, home)
		}
		_, err = s.Exec(within(t, 10*time.Second), "holdfast", "ha", "on", vm)
		b.must(err)
		b.protected(vm)
		b.rising(vm)
		b.booted(vm, 1)
		b.startedTimes(vm, 1)
	}
	vms := slices.Clone(b.vms)
	at := b.off(home)
	for _, vm := range vms {
		b.restarted(vm, at)
	}
	b.rising(vms...)
	b.on(home)
	b.must(b.p.UntilUp(within(t, 30*time.Second)))
	b.quiet(2*time.Second, vms...)
	// The definition that libvirt had on disk must not bring the VM back there.
	b.noDomain(home, vms...)
	for _, vm := range vms {
		b.startedTimes(vm, 2)
	}
}

func TestVMIsRegisteredFromXMLAndRunsByTheWordsOfTheCommandLine(t *testing.T) {
	b := prepare(t)
	s := b.l.Servers()[0]
	vm := b.name("vm")
	b.file(s, "/root/vm.xml", b.define(lab.VM{Name: vm}))
	for _, words := range []string{"vm register /root/vm.xml", "vm start " + vm} {
		_, err := s.Exec(within(t, 30*time.Second), append([]string{"holdfast"}, strings.Fields(words)...)...)
		b.must(err)
	}
	b.rising(vm)
	out, err := s.Exec(within(t, 10*time.Second), "holdfast", "vms")
	b.must(err)
	if !strings.Contains(out, vm) || !strings.Contains(out, "running") {
		t.Errorf("holdfast vms says:\n%s", out)
	}
	_, err = s.Exec(within(t, 60*time.Second), "holdfast", "vm", "stop", vm)
	b.must(err)
	_, err = b.w.UntilStopped(within(t, 15*time.Second), vm)
	b.must(err)
	_, err = b.p.UntilStatus(within(t, 10*time.Second), vm, pb.VMStatus_VM_STATUS_STOPPED)
	b.must(err)
	_, err = s.Exec(within(t, 10*time.Second), "holdfast", "vm", "remove", vm)
	b.must(err)
}

// file puts a file on a server. It lies outside the server's private folders, so every server sees it; the test
// removes it.
func (b *bed) file(s *lab.Server, path, text string) {
	b.t.Helper()
	b.must(os.WriteFile(s.Path(path), []byte(text), 0o600))
	b.t.Cleanup(func() { _ = os.Remove(s.Path(path)) })
}

func TestBadDefinitionsAreRefusedAndNothingIsRegistered(t *testing.T) {
	b := prepare(t)
	good := b.define(lab.VM{Name: b.name("good")})
	swap := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the XML has no %q", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for what, c := range map[string]struct{ xml, want string }{
		"no XML at all":               {"this is no XML", ""},
		"half of the XML":             {good[:len(good)/2], ""},
		"what libvirt does not know":  {swap("machine='q35'", "machine='abacus'"), "libvirt on srv-1 rejects the definition"},
		"a shareable disk":            {swap("<target dev='vda'", "<shareable/><target dev='vda'"), "share"},
		"a control character in name": {swap("<name>", "<name>a&#9;"), "name"},
		"a path for a name":           {swap("<name>", "<name>../"), "name"},
		"a disk that is nowhere":      {swap(b.l.Disk(b.name("good")), "/nowhere/disk.img"), "/nowhere/disk.img"},
	} {
		r, err := b.p.VMs.RegisterVM(within(t, 20*time.Second), &pb.RegisterVMRequest{Xml: c.xml, Set: map[string]string{"ha": "on"}})
		switch {
		case err == nil:
			t.Errorf("%s was registered: %v", what, r.GetNotes())
		case !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: the refusal %q does not say %q", what, err, c.want)
		default:
			t.Logf("%s: %v", what, err)
		}
	}
	_, err := b.p.VMs.RegisterVM(within(t, 20*time.Second), &pb.RegisterVMRequest{Xml: good})
	b.must(err)
	for what, xml := range map[string]string{
		"the name again": strings.Replace(good, lab.UUID(b.name("good")), lab.UUID("another"), 1),
		"the UUID again": strings.Replace(good, "<name>"+b.name("good"), "<name>"+b.name("another"), 1),
	} {
		if _, err := b.p.VMs.RegisterVM(within(t, 20*time.Second), &pb.RegisterVMRequest{Xml: xml}); err == nil {
			t.Errorf("%s was registered", what)
		} else {
			t.Logf("%s: %v", what, err)
		}
	}
	r, err := b.p.VMs.ListVMs(within(t, 5*time.Second), &pb.ListVMsRequest{})
	b.must(err)
	if n := len(r.GetVms()); n != 1 {
		t.Errorf("%d VMs are registered, want the good one only", n)
	}
}
