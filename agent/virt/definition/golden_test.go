package definition

import (
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files; read the diff")

func samples(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(all) < 4 {
		t.Fatalf("samples: %v, %v", all, err)
	}
	return all
}

func load(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := load(t, path); got != want {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func testUUID() string { return "11111111-2222-4333-8444-555555555555" }

func TestDefinitionsAreRegisteredWithAllTheyNeed(t *testing.T) {
	for _, path := range samples(t) {
		base := strings.TrimSuffix(path, ".xml")
		text, d, err := Register(load(t, path), testUUID)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		golden(t, base+".registered.golden", text)
		facts, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, base+".facts.golden", string(facts)+"\n")
	}
}

func TestRegisteringTwiceChangesNothing(t *testing.T) {
	for _, path := range samples(t) {
		once, _, err := Register(load(t, path), testUUID)
		if err != nil {
			t.Fatal(err)
		}
		twice, _, err := Register(once, testUUID)
		if err != nil {
			t.Fatal(err)
		}
		if once != twice {
			t.Errorf("%s: second time differs:\n%s", path, twice)
		}
	}
}

// What libvirt's own Go structures read from the prepared text must be what they read from the operator's, but for
// the few things that Prepare is for.
func TestPreparedDefinitionsDescribeTheSameMachine(t *testing.T) {
	for _, path := range samples(t) {
		text, d, err := Register(load(t, path), testUUID)
		if err != nil {
			t.Fatal(err)
		}
		prepared, err := Prepare(text, local.Marker{Pool: "p", Incarnation: "i", VM: pool.VMID(d.Name), Epoch: 3}, "")
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		golden(t, strings.TrimSuffix(path, ".xml")+".prepared.golden", prepared)
		var was, is libvirtxml.Domain
		for text, into := range map[string]*libvirtxml.Domain{text: &was, prepared: &is} {
			if err := xml.Unmarshal([]byte(text), into); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			into.Metadata, into.OnPoweroff, into.OnReboot, into.OnCrash = nil, "", "", ""
			for i := range into.Devices.TPMs {
				if e := into.Devices.TPMs[i].Backend.Emulator; e != nil {
					e.PersistentState = ""
				}
			}
		}
		a, err := was.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b, err := is.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("%s: machine changed, was:\n%s\nis:\n%s", path, a, b)
		}
	}
}
