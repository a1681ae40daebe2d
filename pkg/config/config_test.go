package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

const minimal = "pool: prod\nserver: srv-1\naddress: 10.0.0.1:7400\n"

func TestThreeLinesMakeACompleteServer(t *testing.T) {
	c, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]any{
		"listen":     {c.Listen, "10.0.0.1:7400"},
		"mode":       {c.Etcd.Mode, "embedded"},
		"client":     {c.Etcd.ClientPort, 2379},
		"peer":       {c.Etcd.PeerPort, 2380},
		"heartbeat":  {c.Etcd.Heartbeat, 50 * time.Millisecond},
		"election":   {c.Etcd.Election, 500 * time.Millisecond},
		"ca":         {c.TLS.CA, "/var/lib/holdfast/pki/ca.crt"},
		"guard":      {c.Guard.Socket, "/run/holdfast/guard.sock"},
		"etcd's dir": {c.EtcdDir(), "/var/lib/holdfast/etcd"},
	}
	for name, pair := range want {
		if pair[0] != pair[1] {
			t.Errorf("%s = %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestFilesFollowTheStateAndRunFolders(t *testing.T) {
	c, err := Parse([]byte(minimal + "state_dir: /srv/hf\nrun_dir: /run/hf2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS.Key != "/srv/hf/pki/server.key" || c.Guard.Socket != "/run/hf2/guard.sock" {
		t.Errorf("key %q, guard %q: want them below /srv/hf and /run/hf2", c.TLS.Key, c.Guard.Socket)
	}
}

func TestAnExternalEtcdIsTakenToHaveEtcdsOwnTimings(t *testing.T) {
	c, err := Parse([]byte(minimal + "etcd:\n  mode: external\n  endpoints: [https://10.0.0.9:2379]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Etcd.Election != time.Second || c.Etcd.Heartbeat != 100*time.Millisecond {
		t.Errorf("election %v, heartbeat %v: want 1s and 100ms", c.Etcd.Election, c.Etcd.Heartbeat)
	}
	if err := c.CheckTTL(5 * time.Second); err != nil {
		t.Errorf("lease_ttl 5s with an election time-out of 1s: %v", err)
	}
	if err := c.CheckTTL(3 * time.Second); err == nil {
		t.Error("lease_ttl 3s with an election time-out of 1s was accepted")
	}
}

func TestBadSettingsAreRefusedWithTheReasonAndTheWayOut(t *testing.T) {
	tests := []struct {
		name, yaml string
		want       []string
	}{
		{"empty", "", []string{"empty"}},
		{"comment only", "# nothing\n", []string{"empty"}},
		{"not yaml", "pool: [", []string{"line"}},
		{"list", "- a\n", []string{"key: value"}},
		{"two documents", minimal + "---\npool: b\n", []string{"one document"}},
		{"misspelt key", minimal + "etcd:\n  electoin: 1s\n", []string{"line 5", `"etcd.electoin"`, `"etcd.election"`}},
		{"camel case", minimal + "stateDir: /x\n", []string{`"stateDir"`, `"state_dir"`}},
		{"wrong section", minimal + "election: 1s\n", []string{`"election"`, `"etcd.election"`}},
		{"nonsense key", minimal + "log:\n  zzzzzzz: 1\n", []string{`"log.zzzzzzz"`, "log knows level, format"}},
		{"pool policy here", minimal + "lease_ttl: 5s\n", []string{`"lease_ttl"`}},
		{"in a list", minimal + "storage:\n  - path: /a\n    mont: true\n", []string{`"storage.mont"`, `"storage.mount"`}},
		{"key twice", minimal + "pool: b\n", []string{`"pool"`, "twice", "line 1"}},
		{"no unit", minimal + "etcd:\n  election: 500\n", []string{"etcd.election", "500", "unit"}},
		{"wrong type", minimal + "etcd:\n  client_port: many\n", []string{"line 5", "many"}},
		{"section as value", minimal + "etcd: embedded\n", []string{"etcd must be", "key: value"}},
		{"no pool", "server: a\naddress: 10.0.0.1:7400\n", []string{`pool name ""`}},
		{"control characters", "pool: \"a\\x1bb\"\nserver: a\naddress: 10.0.0.1:7400\n", []string{`"a?b"`}},
		{"no port", "pool: a\nserver: b\naddress: 10.0.0.1\n", []string{"host:port", "7400"}},
		{"wildcard address", "pool: a\nserver: b\naddress: 0.0.0.0:7400\n", []string{"cannot reach", "listen"}},
		{"mode", minimal + "etcd:\n  mode: inside\n", []string{"inside", "embedded or external"}},
		{"election below heartbeat", minimal + "etcd:\n  heartbeat: 200ms\n  election: 500ms\n", []string{"500ms", "200ms", "1s"}},
		{"same port", minimal + "etcd:\n  client_port: 7400\n", []string{"listen", "etcd.client_port", "7400"}},
		{"same etcd ports", minimal + "etcd:\n  client_port: 2380\n", []string{"etcd.client_port", "etcd.peer_port", "2380"}},
		{"endpoints of embedded", minimal + "etcd:\n  endpoints: [https://a:1]\n", []string{"etcd.endpoints", "embedded", "external"}},
		{"external without endpoints", minimal + "etcd:\n  mode: external\n", []string{"external", "endpoints"}},
		{"plain http", minimal + "etcd:\n  mode: external\n  endpoints: [http://10.0.0.9:2379]\n", []string{"TLS", "https"}},
		{"half a pair", minimal + "etcd:\n  mode: external\n  endpoints: [https://a:1]\n  username: u\n", []string{"username", "password_file"}},
		{"relative path", minimal + "state_dir: var\n", []string{"state_dir", "absolute"}},
		{"run inside state", minimal + "run_dir: /var/lib/holdfast/run\n", []string{"/var/lib/holdfast/run", "/var/lib/holdfast", "reboot"}},
		{"long socket", minimal + "run_dir: /" + strings.Repeat("x", 120) + "\n", []string{"132", "107", "run_dir"}},
		{"watchdog", minimal + "guard:\n  watchdog: on\n", []string{"auto, off"}},
		{"watchdog time-out", minimal + "guard:\n  watchdog_timeout: 1500ms\n", []string{"1.5s", "whole seconds"}},
		{"storage twice", minimal + "storage:\n  - path: /a\n  - path: /a/\n", []string{"/a", "twice"}},
		{"log level", minimal + "log:\n  level: loud\n", []string{"loud", "debug, info"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.yaml))
			if err == nil {
				t.Fatalf("accepted:\n%s", tt.yaml)
			}
			if !errors.Is(err, pool.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("message %q lacks %q", err, w)
				}
			}
		})
	}
}

func TestElectionMustFitTheLease(t *testing.T) {
	c, err := Parse([]byte(minimal + "etcd:\n  election: 2s\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = c.CheckTTL(5 * time.Second)
	if err == nil {
		t.Fatal("an election time-out of 2s beside a lease_ttl of 5s was accepted")
	}
	for _, w := range []string{"2s", "5s", "lease_ttl"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("message %q lacks %q", err, w)
		}
	}
}

func TestAWatchdogMustOutlastARenewalInterval(t *testing.T) {
	c, err := Parse([]byte(minimal + "guard:\n  watchdog_timeout: 5s\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckWatchdog(60 * time.Second); err == nil {
		t.Error("a watchdog of 5s beside a renewal interval of 12s was accepted")
	}
	if err := c.CheckWatchdog(5 * time.Second); err != nil {
		t.Errorf("a watchdog of 5s beside a renewal interval of 1s: %v", err)
	}
}

func TestEncodedSettingsReadBackTheSame(t *testing.T) {
	for name, text := range map[string]string{
		"minimal":  minimal,
		"external": minimal + "etcd:\n  mode: external\n  endpoints: [https://10.0.0.9:2379]\n  username: u\n  password_file: /etc/p\n",
		"fast":     minimal + "etcd:\n  mode: external\n  endpoints: [https://10.0.0.9:2379]\n  heartbeat: 50ms\n  election: 500ms\n",
		"much": minimal + "listen: :7401\nstate_dir: /s\nrun_dir: /r\nlibvirt: qemu:///session\netcd:\n  client_port: 1\n  peer_port: 2\n  election: 1s\n" +
			"guard:\n  watchdog: off\nstorage:\n  - path: /a\n    mount: true\nlog:\n  format: json\n  level: warn\n",
	} {
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := c.Encode("# Written by a test.")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := Parse(out)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if !reflect.DeepEqual(back, c) {
			t.Errorf("%s: read back %+v, want %+v\n%s", name, back, c, out)
		}
		if !strings.HasPrefix(string(out), "# Written by a test.\n") {
			t.Errorf("%s: comment is missing:\n%s", name, out)
		}
		if strings.Contains(string(out), "watchdog_timeout") {
			t.Errorf("%s: a default value was written:\n%s", name, out)
		}
	}
}

func TestClientPathsStartAtTheFilesFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "holdfast.yaml")
	c := Client{Pool: "p", Servers: []string{"10.0.0.1:7400"}, CA: "ca.crt", Cert: "me.crt", Key: "/abs/me.key"}
	data, err := c.Encode("")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadClient(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.CA != filepath.Join(dir, "ca.crt") || got.Key != "/abs/me.key" {
		t.Errorf("ca %q, key %q", got.CA, got.Key)
	}
	if _, err := LoadClient(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestEveryKeyIsSnakeCase(t *testing.T) {
	for _, p := range append(paths(reflect.TypeFor[Config](), ""), paths(reflect.TypeFor[Client](), "")...) {
		if p != strings.ToLower(p) || strings.ContainsAny(p, "- ") || strings.HasSuffix(p, ".") {
			t.Errorf("key %q", p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("a: &x {b: *x}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if !errors.Is(err, pool.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("parsed, yet: %v", err)
		}
	})
}
