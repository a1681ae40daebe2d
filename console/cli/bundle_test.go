package cli

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// unpack reads a bundle: contents by name.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "holdfast-support/")] = string(data)
	}
}

func TestASupportBundleHasWhatHelpNeedsAndNoSecrets(t *testing.T) {
	const secret = "hunter2-never-shown"
	state := fakepool.Troubled()
	state.Servers[0].Server.Fence = []*pb.FenceDevice{{Agent: "fence_ipmilan", Params: map[string]string{"ip": "10.9.9.9", "username": "admin", "passwd": secret, "password": secret, "snmp_priv_passwd": secret, "community": secret, "api_token": secret}}}
	state.Vms[0].Vm.Xml = "<domain><graphics passwd='" + secret + "'/></domain>"
	state.Events = append(state.Events, &pb.Event{Id: "e9", Kind: "SERVER_SET", Text: "set passwd=" + secret + " on hv-01",
		Audit: &pb.Audit{Before: `{"servers/hv-01":null}`, After: `{"servers/hv-01":{"fence":[{"params":{"passwd":"` + secret + `","ip":"10.9.9.9"}}]}}`}})
	b := newBench(t, state, 1)
	path := filepath.Join(t.TempDir(), "help.tar.gz")
	contains(t, "the answer", b.must(ExitOK, "support-bundle", path).out, path)
	files := unpack(t, path)
	for _, name := range []string{"version.txt", "pool.json", "servers.json", "vms.json", "operations.json", "events.json", "incidents.json", "whoami.json"} {
		if files[name] == "" {
			t.Errorf("no %s; there are %d files", name, len(files))
		}
	}
	for name, text := range files {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows a secret:\n%s", name, text)
		}
	}
	contains(t, "servers.json", files["servers.json"], "fence_ipmilan", "10.9.9.9", "admin", removed)
	contains(t, "events.json", files["events.json"], "10.9.9.9", "hv-06 lost")
	contains(t, "incidents.json", files["incidents.json"], "guard armed")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if b.run("support-bundle", path).code == ExitOK {
		t.Error("an existing file was overwritten")
	}
}

func TestASupportBundleIsWrittenWithoutThePoolToo(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 1)
	if err := b.pool.Kill(0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "help.tar.gz")
	contains(t, "the answer", b.must(ExitOK, "support-bundle", path).out, "not in it: pool")
	if files := unpack(t, path); files["version.txt"] == "" || !strings.Contains(files["missing.txt"], "pool") {
		t.Errorf("%v", files)
	}
}

func TestSecretsAreTakenOutOfText(t *testing.T) {
	token := "holdfast-token-" + strings.Repeat("Ab3_", 30)
	for text, want := range map[string]string{
		"password: hunter2":           "password: " + removed,
		`passwd="hunter 2", ip=1`:     `passwd=` + removed + `, ip=1`,
		"ipmi_password=hunter2 x":     "ipmi_password=" + removed + " x",
		"a " + token + " b":           "a " + removed + " b",
		"https://u:hunter2@etcd:2379": "https://u:" + removed + "@etcd:2379",
		"-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\nrest": removed + "\nrest",
		"-----BEGIN PRIVATE KEY-----\nhunter2":                                        removed,
		"password_file: /etc/holdfast/etcd.password":                                  "password_file: " + removed,
		"web-01 restarts on srv-2, since srv-1 is fenced by guard":                    "web-01 restarts on srv-2, since srv-1 is fenced by guard",
	} {
		if got := textWithoutSecrets(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
