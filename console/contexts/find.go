package contexts

import (
	"fmt"
	"os"
	"strings"

	"github.com/holdfast-ha/holdfast/pkg/config"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
)

// ServerPath is where `holdfast-agent init` and `join` tell root on a server how to reach its pool.
const ServerPath = "/etc/holdfast/client.yaml"

// DemoAgents are where `holdfast-agent demo` listens by default.
var DemoAgents = []string{"127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402"}

// Wish is what was asked for. Where a flag is given, the environment's wishes are ignored.
type Wish struct {
	// Agents and Context are the flags. Agents alone means: no context, and so no certificates. Together: these
	// addresses with that context's certificates.
	Agents  string
	Context string
	// File is the operator's file as a flag, which silences HOLDFAST_AGENTS; empty means Path.
	File string
	// Getenv returns HOLDFAST_AGENTS, HOLDFAST_CONTEXT, XDG_CONFIG_HOME and HOME.
	Getenv func(string) string
	// ServerFile replaces ServerPath in tests.
	ServerFile string
}

// Choice is the pool to talk to.
type Choice struct {
	// Name is the context's name, or the pool's on a server; empty if there is none.
	Name     string
	Label    string
	ReadOnly bool
	Target   rpc.Target
	// Why says in words where the addresses come from and, for the demo's, what was looked for before.
	Why string
}

// Find decides which pool to talk to. Errors are pool.ErrInvalid where a file or flag is wrong.
func Find(w Wish) (Choice, error) {
	agents, name, from := w.Agents, w.Context, "the flags"
	if agents == "" && name == "" {
		name = w.Getenv("HOLDFAST_CONTEXT")
		if w.File == "" {
			agents, from = w.Getenv("HOLDFAST_AGENTS"), "the environment"
		}
	}
	file := w.File
	if file == "" {
		file = Path(w.Getenv)
	}
	if agents != "" && name == "" {
		c := Choice{Target: rpc.Target{Agents: split(agents)}, Why: "addresses from " + from}
		return c, c.Target.Validate()
	}
	c, found, err := fromFile(file, name, w.File != "" || name != "")
	if err != nil {
		return Choice{}, err
	}
	if found {
		if agents != "" {
			c.Target.Agents, c.Why = split(agents), c.Why+", addresses from "+from
		}
		return c, c.Target.Validate()
	}
	return withoutFile(w, file)
}

// fromFile reads the operator's file; needed says that it must be there.
func fromFile(path, name string, needed bool) (Choice, bool, error) {
	f, err := Load(path)
	if missing(err) && !needed {
		return Choice{}, false, nil
	}
	if missing(err) {
		return Choice{}, false, fmt.Errorf("%w: %w", err, pool.ErrInvalid)
	}
	if err != nil {
		return Choice{}, false, err
	}
	ctx, ok, err := f.named(name)
	if err != nil || !ok {
		return Choice{}, false, err
	}
	c := Choice{Name: ctx.Name, Label: ctx.Label, ReadOnly: ctx.ReadOnly, Why: fmt.Sprintf("context %s of %s", ctx.Name, path)}
	c.Target, err = target(ctx.Agents, pki.Files{CA: ctx.CA, Cert: ctx.Cert, Key: ctx.Key})
	if err != nil {
		return Choice{}, false, fmt.Errorf("context %s: %w", ctx.Name, err)
	}
	return c, true, nil
}

// withoutFile takes what is on a server of a pool or, elsewhere, the demo's addresses.
func withoutFile(w Wish, file string) (Choice, error) {
	path := w.ServerFile
	if path == "" {
		path = ServerPath
	}
	_, err := os.Stat(path)
	if err != nil && !missing(err) {
		return Choice{}, fmt.Errorf("this server's pool: %w; root may read it, others need a context of their own (holdfast help contexts): %w", err, pool.ErrInvalid)
	}
	if err == nil {
		client, err := config.LoadClient(path)
		if err != nil {
			return Choice{}, err
		}
		c := Choice{Name: client.Pool, Why: "this server's " + path}
		c.Target, err = target(client.Servers, pki.Files{CA: client.CA, Cert: client.Cert, Key: client.Key})
		return c, err
	}
	return Choice{
		Target: rpc.Target{Agents: DemoAgents},
		Why: fmt.Sprintf("the demo's addresses, as nothing is configured: no --agents or --context, no HOLDFAST_AGENTS or HOLDFAST_CONTEXT, no context in %s, no %s",
			file, path),
	}, nil
}

// target opens the identity, if there is one.
func target(agents []string, files pki.Files) (rpc.Target, error) {
	t := rpc.Target{Agents: agents}
	if files.CA == "" {
		return t, nil
	}
	store, err := pki.Open(files)
	if err != nil {
		return t, fmt.Errorf("%w: %w", err, pool.ErrInvalid)
	}
	t.TLS = store.Client(pki.ServerHost)
	return t, nil
}

func split(list string) []string {
	var out []string
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, a)
		}
	}
	return out
}
