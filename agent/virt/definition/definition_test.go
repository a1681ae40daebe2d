package definition

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// domain makes a small definition with extra devices and extra top-level elements.
func domain(devices, top string) string {
	return `<domain type='qemu'><name>vm-1</name><uuid>11111111-2222-4333-8444-555555555555</uuid>` +
		`<memory unit='MiB'>64</memory><os><type>hvm</type></os>` + top + `<devices>` + devices + `</devices></domain>`
}

func TestTextThatIsNoDefinitionIsRefused(t *testing.T) {
	ok := domain("", "")
	deep := strings.Repeat("<a>", 80) + strings.Repeat("</a>", 80)
	cases := map[string]struct{ text, say string }{
		"empty":               {"", "no element"},
		"not XML":             {"hello", "outside"},
		"cut off":             {ok[:len(ok)-20], ""},
		"second root":         {ok + ok, "follows the end"},
		"document type":       {`<!DOCTYPE domain [<!ENTITY x "y">]>` + ok, "document types"},
		"external entity":     {`<!DOCTYPE d SYSTEM "file:///etc/passwd">` + ok, "document types"},
		"unknown entity":      {strings.Replace(ok, "vm-1", "&xxe;", 1), "entity"},
		"too long":            {ok + strings.Repeat(" ", MaxBytes), "limit"},
		"too deep":            {domain(deep, ""), "nested"},
		"not UTF-8":           {strings.Replace(ok, "vm-1", "vm\xff", 1), "UTF-8"},
		"other charset":       {`<?xml version="1.0" encoding="utf-16"?>` + ok, "utf-16"},
		"wrong element":       {"<network><name>x</name></network>", "want <domain>"},
		"control character":   {strings.Replace(ok, "vm-1", "vm&#27;[2J", 1), ""},
		"C1 control":          {strings.Replace(ok, "vm-1", "vm&#x9b;2J", 1), "vm name"},
		"line break in name":  {strings.Replace(ok, "vm-1", "vm-1\n", 1), "vm name"},
		"slash in name":       {strings.Replace(ok, "vm-1", "../vm", 1), "vm name"},
		"two names":           {domain("", "<name>other</name>"), "twice"},
		"two attributes":      {strings.Replace(ok, "type='qemu'", "type='qemu' type='kvm'", 1), "twice"},
		"no memory":           {strings.Replace(ok, "<memory unit='MiB'>64</memory>", "", 1), "no <memory>"},
		"negative memory":     {strings.Replace(ok, "64", "-64", 1), "no size"},
		"memory overflow":     {strings.Replace(ok, "64", "9223372036854775807", 1), "more than"},
		"unknown unit":        {strings.Replace(ok, "MiB", "stone", 1), "unit"},
		"no CPUs":             {domain("", "<vcpu>0</vcpu>"), "no number of CPUs"},
		"other hypervisor":    {strings.Replace(ok, "qemu", "xen", 1), "only kvm and qemu"},
		"UUID that is none":   {strings.Replace(ok, "11111111-", "1-", 1), "no UUID"},
		"crossed elements":    {"<domain><a></domain></a>", ""},
		"undeclared and bare": {"<domain type=qemu></domain>", ""},
	}
	for name, c := range cases {
		_, err := Read(c.text)
		if !errors.Is(err, pool.ErrInvalid) || !strings.Contains(fmt.Sprint(err), c.say) {
			t.Errorf("%s: got %v, want an invalid definition: %q", name, err, c.say)
		}
		for _, r := range fmt.Sprint(err) {
			if r < 0x20 || (r >= 0x7f && r < 0xa0) {
				t.Errorf("%s: control character in message %q", name, err)
			}
		}
	}
	if _, err := Read(ok); err != nil {
		t.Errorf("the definition that the cases are made of: %v", err)
	}
}

func TestDefinitionsThatLetTwoServersWriteAreRefused(t *testing.T) {
	disk := func(extra string) string {
		return `<disk type='file' device='disk'><source file='/srv/a.img'/><target dev='vda'/>` + extra + `</disk>`
	}
	raw := func(args ...string) string {
		s := `<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>`
		for _, a := range args {
			s += "<q:arg value='" + attrEscape.Replace(a) + "'/>"
		}
		return s + "</q:commandline>"
	}
	cases := map[string]struct{ text, code string }{
		"shareable":          {domain(disk("<shareable/>"), ""), CodeSharedDisk},
		"block job":          {domain(disk("<mirror type='file' job='copy'/>"), ""), CodeBlockJob},
		"volume":             {domain(`<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>`, ""), CodeStorageVolume},
		"relative":           {domain(strings.Replace(disk(""), "/srv/", "", 1), ""), CodeRelativePath},
		"locking off":        {domain("", raw("-set", "x")), CodeRawArguments},
		"blockdev":           {domain("", raw("-blockdev", "driver=file,filename=/a,locking=off")), CodeRawArguments},
		"long option":        {domain("", raw("--drive", "file=/a")), CodeRawArguments},
		"share-rw":           {domain("", raw("-device", "virtio-blk-pci,share-rw=on")), CodeRawArguments},
		"share-rw JSON":      {domain("", raw("-device", `{"driver":"virtio-blk-pci","share-rw":true}`)), CodeRawArguments},
		"global":             {domain("", raw("-global", "virtio-blk-device.share-rw=on")), CodeRawArguments},
		"saved state":        {domain("", raw("-loadvm", "s1")), CodeRawArguments},
		"default name space": {domain("", `<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-drive'/></commandline>`), CodeRawArguments},
		"override": {domain("", `<qemu:override><qemu:device alias='virtio-disk0'><qemu:frontend>`+
			`<qemu:property name='share-rw' type='bool' value='true'/></qemu:frontend></qemu:device></qemu:override>`), CodeRawArguments},
	}
	for name, c := range cases {
		_, err := Read(c.text)
		var r *pool.Refusal
		if !errors.As(err, &r) || r.Code != c.code || r.Remedy == "" {
			t.Errorf("%s: got %v, want a refusal %s with a remedy", name, err, c.code)
		}
		if _, err := Prepare(c.text, local.Marker{Pool: "p", VM: "vm-1"}, ""); !errors.Is(err, pool.ErrRefused) {
			t.Errorf("%s: prepared all the same: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"harmless argument": domain("", raw("-device", "pvpanic")),
		"no disks":          domain("", ""),
		"shared but read only": domain(
			disk("<shareable/><readonly/>"), ""),
	} {
		d, err := Read(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !d.DiskLocks || !d.Movable {
			t.Errorf("%s: locks %v (%v), movable %v (%v)", name, d.DiskLocks, d.Unlocked, d.Movable, d.Fixed)
		}
	}
}

func TestMarkerSurvivesDefinitionAndMetadataCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~]{1,20}`)
		want := local.Marker{
			Pool: text.Draw(t, "pool"), Incarnation: text.Draw(t, "incarnation"), VM: "vm-1",
			Epoch:     pool.Epoch(rapid.Int64Min(0).Draw(t, "epoch")),
			Operation: pool.OperationID(rapid.StringMatching(`[a-z0-9-]{0,20}`).Draw(t, "operation")),
			Started:   rapid.Bool().Draw(t, "started"),
		}
		got, err := ParseMarker(MarkerXML(want))
		if err != nil || got != want {
			t.Fatalf("metadata: got %+v, %v, want %+v", got, err, want)
		}
		full, err := Prepare(domain("", "<metadata><a:b xmlns:a='urn:a'>x <c/> y</a:b></metadata>"), want, "")
		if err != nil {
			t.Fatal(err)
		}
		// Preparing again replaces the marker.
		want.Epoch++
		if full, err = Prepare(full, want, ""); err != nil {
			t.Fatal(err)
		}
		found, err := Marker(full)
		if err != nil || found == nil || *found != want {
			t.Fatalf("definition: got %+v, %v, want %+v", found, err, want)
		}
		if n := strings.Count(full, Namespace); n != 1 {
			t.Fatalf("%d markers in %s", n, full)
		}
		if !strings.Contains(full, "<a:b xmlns:a='urn:a'>x <c/> y</a:b>") {
			t.Fatalf("other metadata was changed: %s", full)
		}
	})
}

func TestDamagedMarkerIsAnErrorNotAStranger(t *testing.T) {
	for _, m := range []string{"<vm/>", "<vm pool='p' name='a' epoch='x'/>", "<other pool='p' name='a' epoch='1'/>", "", "<vm"} {
		if got, err := ParseMarker(m); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%q: got %+v, %v", m, got, err)
		}
	}
	text := domain("", "<metadata><h:vm xmlns:h='"+Namespace+"' epoch='x'/></metadata>")
	if m, err := Marker(text); err == nil {
		t.Errorf("got %+v", m)
	}
	if m, err := Marker(domain("", "<metadata><h:vm xmlns:h='urn:other' pool='p' name='a' epoch='1'/></metadata>")); m != nil || err != nil {
		t.Errorf("another tool's element: got %+v, %v", m, err)
	}
}

func TestChainsShowBackingImagesAndBlockJobs(t *testing.T) {
	live := load(t, "testdata/q35-running.xml")
	chains, err := Chains(live)
	if err != nil || len(chains) != 2 {
		t.Fatalf("got %v, %v", chains, err)
	}
	if got := fmt.Sprint(chains[0].Backing); got != "[/srv/pool/web-1.qcow2 /srv/pool/templates/debian12.qcow2]" {
		t.Errorf("backing chain is %s", got)
	}
	busy := strings.Replace(live, "<target dev='vda' bus='virtio'/>",
		"<mirror type='file' job='copy' ready='yes'><format type='qcow2'/><source file='/srv/new.qcow2'/></mirror><target dev='vda' bus='virtio'/>", 1)
	if chains, err = Chains(busy); err != nil || chains[0].Job != "copy" || chains[0].JobDestination != "/srv/new.qcow2" || !chains[0].JobReady {
		t.Errorf("got %+v, %v", chains[0], err)
	}
}

func TestPasswordsAreTakenOutAndPutBack(t *testing.T) {
	text := load(t, "testdata/q35-running.registered.golden")
	open, secrets, err := TakeSecrets(text)
	if err != nil || secrets["graphics/vnc/0/passwd"] != "s3<ret" {
		t.Fatalf("got %v, %v", secrets, err)
	}
	if strings.Contains(open, "s3") || !strings.Contains(open, "passwd=''") {
		t.Error("the password is still there, or its place is not, and the display would open to everybody")
	}
	if lacks, err := LacksSecrets(open); err != nil || !lacks {
		t.Errorf("lacks nothing, %v", err)
	}
	if lacks, err := LacksSecrets(text); err != nil || lacks {
		t.Errorf("a whole definition lacks something, %v", err)
	}
	back, err := PutSecrets(open, secrets)
	if err != nil || !strings.Contains(back, "passwd='s3&lt;ret'") {
		t.Errorf("got %v:\n%s", err, back)
	}
	if again, none, err := TakeSecrets(open); err != nil || len(none) != 0 || again != open {
		t.Errorf("taken twice: %v, %v", none, err)
	}
}

func TestEveryKindOfPasswordIsTakenOut(t *testing.T) {
	text := domain(`<graphics type='vnc' passwd='hush-vnc'/><graphics type='spice' passwd='hush-spice' passwdValidTo='2030-01-01T00:00:00'/>
		<disk type='network' device='cdrom'><source protocol='https' name='a.iso'><cookies><cookie name='key'>hush-cookie</cookie></cookies></source><target dev='sda'/></disk>`,
		`<q:commandline xmlns:q='`+qemuNamespace+`'><q:arg value='-object'/><q:arg value='secret,id=s,data=hush-qemu'/></q:commandline>`)
	open, secrets, err := TakeSecrets(text)
	if err != nil || len(secrets) != 4 || strings.Contains(open, "hush") {
		t.Fatalf("got %v, %v\n%s", secrets, err, open)
	}
	if !strings.Contains(open, "passwdValidTo='2030") || !strings.Contains(open, "value='-object'") {
		t.Errorf("more than passwords is gone:\n%s", open)
	}
	back, err := PutSecrets(open, secrets)
	if err != nil || strings.Count(back, "hush-") != 4 {
		t.Errorf("put back: %v\n%s", err, back)
	}
}

func TestHostModelStaysHostModelWhenARunningDomainIsRead(t *testing.T) {
	live := load(t, "testdata/q35-running.xml")
	got, err := WithCPUOf(live, domain("", "<cpu mode='host-model' check='partial'/>"))
	if err != nil || !strings.Contains(got, "<cpu mode='host-model' check='partial'/>") || strings.Contains(got, "Skylake") {
		t.Errorf("got %v:\n%s", err, got)
	}
}

func TestNamesOfMachinesAndCPUsCanBeReadBack(t *testing.T) {
	for _, m := range []Machine{{"pc-q35-7.2", "x86_64", "kvm"}, {"", "", "qemu"}, {"q35", "", ""}} {
		if got := ParseMachine(m.String()); got != m {
			t.Errorf("%q: got %+v, want %+v", m.String(), got, m)
		}
	}
	root, err := parseTree("<cpu><model>EPYC</model><feature policy='require' name='ss'/><feature policy='disable' name='hle'/></cpu>")
	if err != nil {
		t.Fatal(err)
	}
	name := cpuNeed(root)
	if name != "EPYC,+ss,-hle" {
		t.Errorf("got %q", name)
	}
	back, err := parseTree(CPUXML(name))
	if err != nil || cpuNeed(back) != name {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestSecondMonitorJoinsTheOperatorsArguments(t *testing.T) {
	own := domain("", `<q:commandline xmlns:q='`+qemuNamespace+`'><q:arg value='-device'/><q:arg value='pvpanic'/></q:commandline>`)
	for text, want := range map[string]string{
		own:            "<q:arg value='pvpanic'/>\n    <q:arg value='-qmp'/>\n    <q:arg value='unix:/run/a,,b.sock,server=on,wait=off'/>",
		domain("", ""): "<qemu:commandline xmlns:qemu='" + qemuNamespace + "'>\n    <qemu:arg value='-qmp'/>",
	} {
		got, err := Prepare(text, local.Marker{Pool: "p", VM: "vm-1"}, "/run/a,b.sock")
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("got %v, want %s in\n%s", err, want, got)
		}
	}
}

func FuzzReadNeverPanicsAndPrepareStaysReadable(f *testing.F) {
	f.Add(domain("<disk type='file'><source file='/a'/></disk>", "<vcpu>2</vcpu>"))
	f.Add(domain("<hostdev/><interface type='hostdev'/><tpm><backend type='emulator'/></tpm><graphics/>", "<cpu/>"))
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Read(text)
		if err != nil || d.UUID == "" {
			return
		}
		out, err := Prepare(text, local.Marker{Pool: "p", VM: pool.VMID(d.Name), Epoch: 1}, "")
		if err != nil {
			return
		}
		if _, err := Read(out); err != nil {
			t.Errorf("prepared text cannot be read: %v\n%s", err, out)
		}
	})
}
