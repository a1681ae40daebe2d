package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	kvetcd "github.com/holdfast-ha/holdfast/pkg/kv/etcd"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
)

// schemaOf names the message of each kind of key, as docs/etcd.md has it.
var schemaOf = map[string]string{"config": "PoolConfig", "servers": "Server", "seats": "Seat", "members": "Member", "roster": "Roster",
	"vms": "VM", "claims": "Claim", "states": "VMState", "homes": "Home", "fences": "Fence", "alerts": "Alert",
	"operations": "Operation", "events": "Event", "incidents": "Incident", "tokens": "JoinToken", "revoked": "Revocation"}

// schemas reads what docs/schemas says of each kind.
func schemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	compiled := map[string]*jsonschema.Schema{}
	for kind, message := range schemaOf {
		s, err := jsonschema.NewCompiler().Compile("../docs/schemas/holdfast.v1." + message + ".jsonschema.bundle.json")
		if err != nil {
			t.Fatal(err)
		}
		compiled[kind] = s
	}
	return compiled
}

// watcher is somebody else's program that looks at the pool's keys.
type watcher struct {
	name    string
	printed *output
	stop    func()
}

// watch starts a program; it is ended with the test.
func watch(t *testing.T, name string, args ...string) *watcher {
	t.Helper()
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Skipf("%s is not here: %v; install it to see that %s works", args[0], err, name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{name: name, printed: &output{}}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Stdout, cmd.Stderr = w.printed, w.printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	t.Cleanup(w.stop)
	return w
}

// until waits for a line that contains all words.
func (w *watcher) until(t *testing.T, words ...string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 400 {
		for line := range strings.Lines(w.printed.String()) {
			if containsAll(line, words) {
				return
			}
		}
		<-tick.C
	}
	t.Errorf("%s never printed a line with %q; it printed:\n%s", w.name, words, w.printed)
}

func containsAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// The examples of docs/etcd.md, as they stand there, see a failover; and every value that is in etcd after it is what
// the published schemas say.
func TestStrangersCanFollowAPoolInEtcd(t *testing.T) {
	goWatch := filepath.Join(t.TempDir(), "watch")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", goWatch, "../docs/examples/watch").CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	b := startDemo(t)
	b.until("eight VMs run", 20*time.Second, func(vms map[string]*pb.VMView) bool {
		for _, v := range vms {
			if !runsOn(v, "srv-1", "srv-2", "srv-3") {
				return false
			}
		}
		return len(vms) == 8
	})
	watchers := []*watcher{
		watch(t, "docs/examples/watch.py", "python3", "../docs/examples/watch.py", "http://"+b.etcd, "pool"),
		watch(t, "docs/examples/watch", goWatch, b.etcd, "pool"),
	}
	claims := watch(t, "etcdctl watch", "etcdctl", "--endpoints", b.etcd, "watch", "--prefix", "/holdfast/v1/pool/claims/")
	for _, w := range watchers {
		w.until(t, "db-copy on", "srv-2")
	}
	if err := b.tell("power", "off", "srv-2"); err != nil {
		t.Fatal(err)
	}
	for _, w := range watchers {
		w.until(t, "db-copy goes", "srv-2", "epoch 3")
	}
	claims.until(t, `"vm":"db-copy"`, `"epoch":"3"`, "CLAIM_PHASE_HELD")
	valuesMatchTheirSchemas(t, b.etcd)
}

func valuesMatchTheirSchemas(t *testing.T, endpoint string) {
	t.Helper()
	client, err := kvetcd.Open(kvetcd.Options{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const prefix = "/holdfast/v1/pool/"
	all, _, err := client.List(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	known, seen := schemas(t), map[string]int{}
	for _, entry := range all {
		kind, _, _ := strings.Cut(strings.TrimPrefix(entry.Key, prefix), "/")
		seen[kind]++
		if kind == "leader" {
			continue // a bare name
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(entry.Value))
		if err == nil && known[kind] == nil {
			t.Errorf("%s is of a kind without a schema", entry.Key)
			continue
		}
		if err == nil {
			err = known[kind].Validate(value)
		}
		if err != nil {
			t.Errorf("%s: %s: %v", entry.Key, entry.Value, err)
		}
	}
	for _, kind := range []string{"config", "servers", "members", "leader", "vms", "claims", "states", "fences", "alerts", "events", "incidents"} {
		if seen[kind] == 0 {
			t.Errorf("no key of kind %s was there to check", kind)
		}
	}
}

// A schema that accepts everything would prove nothing.
func TestSchemasRefuseWhatIsNotAValue(t *testing.T) {
	known := schemas(t)
	for kind, value := range map[string]string{"claims": `{"vm":7}`, "members": `{"guard":"yes"}`, "vms": `[]`, "config": `{"ha":"on"}`, "fences": `{"proof":"PROOF_BY_MAGIC"}`} {
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			t.Fatal(err)
		}
		if known[kind].Validate(v) == nil {
			t.Errorf("the schema of %s accepts %s", kind, value)
		}
	}
	entries, err := os.ReadDir("../docs/schemas")
	if err != nil || len(entries) < len(schemaOf) {
		t.Errorf("docs/schemas has %d files (%v), want one for each of %d kinds", len(entries), err, len(schemaOf))
	}
}

// roleLines are the lines of docs/etcd.md that make a user who may only watch.
func roleLines(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/etcd.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "    etcdctl role add")
	block, _, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatal("docs/etcd.md has no lines that add a role")
	}
	return "etcdctl role add" + block
}

func TestAWatcherOfTheDocumentedRoleReadsAllButSecretsAndWritesNothing(t *testing.T) {
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skipf("etcdctl is not here (%v): make tools, and put .cache/tools into PATH", err)
	}
	endpoint := etcdtest.Start(t, 1).Endpoints()[0]
	ctl := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+endpoint, "ETCDCTL_COMMAND_TIMEOUT=60s")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	setUp := `etcdctl put /holdfast/v1/prod/claims/vm-1 here; etcdctl put /holdfast/v1/prod/secrets/vm-1 hidden
		etcdctl user add root:r; etcdctl user grant-role root root
		` + strings.Replace(roleLines(t), "user add watcher", "user add watcher:w", 1) + `
		etcdctl auth enable`
	if out, err := ctl(setUp); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for script, want := range map[string]string{
		"etcdctl --user watcher:w get --prefix /holdfast/v1/prod/claims/":   "here",
		"etcdctl --user watcher:w get /holdfast/v1/prod/claims/vm-1":        "here",
		"! etcdctl --user watcher:w get --prefix /holdfast/v1/prod/secrets": "permission denied",
		"! etcdctl --user watcher:w get --prefix /holdfast/v1/prod/tokens":  "permission denied",
		"! etcdctl --user watcher:w put /holdfast/v1/prod/claims/vm-1 mine": "permission denied",
	} {
		if out, err := ctl(script); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %s; want %q", script, err, out, want)
		}
	}
}
