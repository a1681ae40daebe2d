package contexts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// home is an operator's home folder and environment.
type home struct {
	t   *testing.T
	dir string
	env map[string]string
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	return &home{t: t, dir: dir, env: map[string]string{"HOME": dir}}
}

func (h *home) getenv(key string) string { return h.env[key] }

func (h *home) file(text string) {
	h.t.Helper()
	h.write(".config/holdfast/config.yaml", text)
}

func (h *home) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) find(w Wish) (Choice, error) {
	w.Getenv, w.ServerFile = h.getenv, filepath.Join(h.dir, "etc/client.yaml")
	return Find(w)
}

const two = `default: lab
contexts:
  - name: lab
    agents: ["127.0.0.1:7500"]
  - name: demo
    agents: ["127.0.0.1:7600", "127.0.0.1:7601"]
    label: PLAY
    read_only: true
`

func TestFlagsComeBeforeTheEnvironmentAndTheFile(t *testing.T) {
	tests := []struct {
		name string
		wish Wish
		env  map[string]string
		want []string
	}{
		{"the file's default", Wish{}, nil, []string{"127.0.0.1:7500"}},
		{"a context by flag", Wish{Context: "demo"}, nil, []string{"127.0.0.1:7600", "127.0.0.1:7601"}},
		{"a context by environment", Wish{}, map[string]string{"HOLDFAST_CONTEXT": "demo"}, []string{"127.0.0.1:7600", "127.0.0.1:7601"}},
		{"addresses by environment", Wish{}, map[string]string{"HOLDFAST_AGENTS": "127.0.0.1:1"}, []string{"127.0.0.1:1"}},
		{"a flag silences the environment", Wish{Context: "demo"}, map[string]string{"HOLDFAST_AGENTS": "127.0.0.1:1"}, []string{"127.0.0.1:7600", "127.0.0.1:7601"}},
		{"addresses with a context", Wish{Agents: "127.0.0.1:9, 127.0.0.1:8", Context: "lab"}, nil, []string{"127.0.0.1:9", "127.0.0.1:8"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHome(t)
			h.file(two)
			for k, v := range tt.env {
				h.env[k] = v
			}
			c, err := h.find(tt.wish)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(c.Target.Agents, tt.want) {
				t.Errorf("agents = %v, want %v (%s)", c.Target.Agents, tt.want, c.Why)
			}
		})
	}
}

func TestLabelAndReadOnlyBelongToTheContext(t *testing.T) {
	h := newHome(t)
	h.file(two)
	c, err := h.find(Wish{Context: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "demo" || c.Label != "PLAY" || !c.ReadOnly {
		t.Errorf("choice = %+v, want demo, PLAY, read-only", c)
	}
}

func TestWithoutAnyFileTheDemoIsTriedAndItIsSaidWhatWasLookedFor(t *testing.T) {
	h := newHome(t)
	c, err := h.find(Wish{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Target.Agents, DemoAgents) || c.Target.TLS != nil {
		t.Errorf("target = %+v, want the demo's", c.Target)
	}
	for _, want := range []string{"HOLDFAST_AGENTS", "config.yaml", "client.yaml"} {
		if !strings.Contains(c.Why, want) {
			t.Errorf("why %q does not name %s", c.Why, want)
		}
	}
}

func TestOnAServerItsOwnPoolIsUsedWithItsCertificates(t *testing.T) {
	h := newHome(t)
	h.identity("etc")
	h.write("etc/client.yaml", "pool: prod\nservers: [\"10.0.0.1:7400\"]\nca: ca.crt\ncert: me.crt\nkey: me.key\n")
	c, err := h.find(Wish{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "prod" || c.Target.TLS == nil || !slices.Equal(c.Target.Agents, []string{"10.0.0.1:7400"}) {
		t.Errorf("choice = %+v, want pool prod at 10.0.0.1:7400 with TLS", c)
	}
}

// identity writes ca.crt, me.crt and me.key into a folder.
func (h *home) identity(folder string) {
	h.t.Helper()
	a, err := pki.NewAuthority("prod", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	ca, err := a.PEM()
	if err != nil {
		h.t.Fatal(err)
	}
	pair, err := a.Issue(pki.Request{Name: "me", Role: pki.RoleOperator}, time.Now(), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(folder+"/ca.crt", string(ca.Cert))
	h.write(folder+"/me.crt", string(pair.Cert))
	h.write(folder+"/me.key", string(pair.Key))
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	h := newHome(t)
	h.identity(".config/holdfast/prod")
	h.file("contexts:\n  - name: prod\n    agents: [\"hv-1:7400\"]\n    ca: prod/ca.crt\n    cert: prod/me.crt\n    key: prod/me.key\n")
	c, err := h.find(Wish{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Target.TLS == nil {
		t.Error("no TLS")
	}
}

func TestAWrongFileIsRefusedWithTheReasonAndTheWayOut(t *testing.T) {
	tests := []struct {
		name, file string
		wish       Wish
		want       []string
	}{
		{"misspelt key", "contexts:\n  - name: a\n    agent: [\"127.0.0.1:1\"]\n", Wish{}, []string{"line 3", `"contexts.agent"`, `"contexts.agents"`}},
		{"misspelt key at the top", "defaults: a\ncontexts: []\n", Wish{}, []string{`"defaults"`, `"default"`}},
		{"no such context", two, Wish{Context: "prod"}, []string{`"prod"`, "lab, demo"}},
		{"no such default", "default: x\ncontexts:\n  - name: a\n    agents: [\"127.0.0.1:1\"]\n", Wish{}, []string{`"x"`, "there are a"}},
		{"several and none named", "contexts:\n  - name: a\n    agents: [\"127.0.0.1:1\"]\n  - name: b\n    agents: [\"127.0.0.1:1\"]\n", Wish{}, []string{"--context", "a, b"}},
		{"twice", "contexts:\n  - name: a\n    agents: [\"127.0.0.1:1\"]\n  - name: a\n    agents: [\"127.0.0.1:1\"]\n", Wish{}, []string{"twice"}},
		{"no agents", "contexts:\n  - name: a\n    agents: []\n", Wish{}, []string{"context a", "host:port"}},
		{"half an identity", "contexts:\n  - name: a\n    agents: [\"hv-1:1\"]\n    ca: x\n", Wish{}, []string{"ca, cert and key"}},
		{"files that are not there", "contexts:\n  - name: a\n    agents: [\"hv-1:1\"]\n    ca: x\n    cert: y\n    key: z\n", Wish{}, []string{"context a", "no such file"}},
		{"control characters", "contexts:\n  - name: \"a\\x1b[2J\"\n    agents: [\"127.0.0.1:1\"]\n", Wish{}, []string{`"a?[2J"`}},
		{"no port", "contexts:\n  - name: a\n    agents: [localhost]\n", Wish{}, []string{`"localhost"`, "host:port"}},
		{"another machine without certificates", "contexts:\n  - name: a\n    agents: [\"hv-1:7400\"]\n", Wish{}, []string{"hv-1:7400", "certificates"}},
		{"addresses of another machine", "", Wish{Agents: "hv-1:7400"}, []string{"hv-1:7400", "certificates"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHome(t)
			h.file(tt.file)
			_, err := h.find(tt.wish)
			if !errors.Is(err, pool.ErrInvalid) {
				t.Fatalf("error = %v, want it invalid", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
		})
	}
}

func TestAFileThatWasNamedMustBeThere(t *testing.T) {
	h := newHome(t)
	for name, wish := range map[string]Wish{"file": {File: filepath.Join(h.dir, "nothing.yaml")}, "context": {Context: "prod"}} {
		if _, err := h.find(wish); !errors.Is(err, pool.ErrInvalid) {
			t.Errorf("%s named, but not there: %v, want it invalid", name, err)
		}
	}
}
