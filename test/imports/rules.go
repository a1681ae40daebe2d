package imports

import (
	"slices"
	"strings"
)

// module is the path of this module.
const module = "github.com/holdfast-ha/holdfast"

// anywhere lists the folders that every package of the module may import: the
// clock edge, and the build's own name. proto and pkg/pool are named in the
// rules, because not everybody may use them.
var anywhere = []string{"pkg/clock", "pkg/version"}

// mayImport says which folders of this module a folder's production code may
// import, besides itself, its own subfolders and anywhere. A rule covers the
// subfolders that have no rule of their own; "agent/*" means every folder
// below agent. Source: docs/architecture.md, "Who may import whom".
var mayImport = map[string][]string{
	"agent":        {"agent/*", "pkg/*", "proto"},
	"agent/api":    {"agent/drill", "agent/figures", "pkg/rpc", "pkg/plan", "pkg/wire", "pkg/pool", "proto"},
	"agent/app":    {"agent/api", "agent/drill", "agent/failsafe", "agent/figures", "agent/guard", "agent/leader", "agent/local", "agent/reach", "pkg/kv", "pkg/lease", "pkg/plan", "pkg/store", "pkg/pool", "proto"},
	"agent/etcd":   {"pkg/config", "pkg/kv", "pkg/pki", "pkg/statefile", "pkg/store", "pkg/pool", "proto"},
	"agent/mesh":   {"agent/api", "agent/drill", "agent/figures", "agent/local", "pkg/pki", "pkg/rpc", "pkg/wire", "pkg/pool", "proto"}, // api's words: Inspection, FoundDomain
	"agent/setup":  {"agent/etcd", "pkg/config", "pkg/kv", "pkg/pki", "pkg/rpc", "pkg/statefile", "pkg/store", "pkg/wire", "pkg/pool", "proto"},
	"agent/leader": {"pkg/plan", "pkg/pool"},
	"agent/local":  {"agent/guard", "pkg/pool"}, // guard's words: Process, Lease, Held
	"agent/guard":  {"pkg/statefile", "pkg/pool"},
	// A drill's part on a server: guard's word Process, and the way to etcd that it can close.
	"agent/drill": {"agent/guard", "pkg/kv", "pkg/pool"},
	"agent/reach": {"pkg/pool"},
	// What a rebuild decides, and how it asks the other servers; the command beside it has etcd and the files.
	"agent/rebuild": {"pkg/pki", "pkg/rpc", "pkg/saved", "pkg/pool", "proto"},
	// What is exported is read from the agent; only calls and requests to etcd are counted on their way.
	"agent/check":   {"pkg/pool"}, // a judgement; the command beside it collects
	"agent/metrics": {"pkg/kv", "pkg/plan", "pkg/pool"},
	"agent/virt":    {"agent/local", "agent/guard", "pkg/pool"}, // the words of local.Hypervisor
	"agent/fence":   {"pkg/pool"},
	"agent/logind":  {"pkg/pool"},
	// local's words: Usage, Job. Figures are messages from where they are measured to who shows them.
	"agent/figures": {"agent/local", "pkg/pool", "proto"},
	// guard's words: Client, Lease.
	"agent/failsafe": {"agent/guard", "pkg/statefile", "pkg/pool"},
	"agent/sim":      {"agent/*", "pkg/*", "proto"},

	"console":      {"console/cli", "console/contexts", "pkg/rpc", "pkg/config"},
	"console/tui":  {"console/ui", "console/feed", "console/contexts", "pkg/rpc", "pkg/pool", "pkg/config"},
	"console/ui":   {"console/feed", "console/wording", "pkg/rpc", "pkg/pool", "proto"}, // rpc's words: refusals, permitted calls
	"console/feed": {"pkg/rpc", "pkg/pool", "proto"},
	"console/cli":  {"console/contexts", "console/wording", "pkg/rpc", "pkg/pool", "proto"},

	// Which pool, and with which certificates: for the command line and the console.
	"console/contexts": {"pkg/config", "pkg/pki", "pkg/rpc", "pkg/statefile", "pkg/pool", "proto"},

	// What the API tells, in words: for both.
	"console/wording": {"proto"},

	// Examples for other tools know nothing of this module but its keys.
	"docs/examples/watch": {},

	"pkg/clock":     {"pkg/pool"},
	"pkg/config":    {"pkg/pool"},
	"pkg/kv":        {"pkg/pool"},
	"pkg/lease":     {"pkg/kv", "pkg/statefile", "pkg/pool"},
	"pkg/place":     {"pkg/pool"},
	"pkg/plan":      {"pkg/place", "pkg/pool"},
	"pkg/pool":      {},
	"pkg/pki":       {"pkg/statefile", "pkg/pool"},
	"pkg/rpc":       {"pkg/pki", "pkg/pool", "proto"},
	"pkg/saved":     {"pkg/statefile", "pkg/wire", "pkg/pool", "proto"},
	"pkg/statefile": {},
	"pkg/store":     {"pkg/kv", "pkg/wire", "pkg/pool", "proto"},
	"pkg/version":   {},
	"pkg/wire":      {"pkg/pool", "proto"},

	"configs": {}, // samples; its tests load them with pkg/config
	"proto":   {},
	"test":    {"agent", "agent/*", "console", "console/*", "pkg/*", "proto"},
}

// alone lists the folders that must not import even what anywhere allows.
var alone = []string{"pkg/place", "pkg/plan", "pkg/pool", "pkg/version", "proto"}

// edge is a library that only some folders may import, also in their tests.
type edge struct {
	library string
	folders []string
}

var edges = []edge{
	{"github.com/charmbracelet/bubbletea", []string{"console/ui", "console/tui"}},
	{"github.com/charmbracelet/bubbles", []string{"console/ui", "console/tui"}},
	{"github.com/charmbracelet/lipgloss", []string{"console/ui", "console/tui"}},
	{"libvirt.org/go/libvirt", []string{"agent/virt", "test/lab"}},
	{"github.com/prometheus", []string{"agent/metrics", "configs"}},
	{"go.etcd.io/etcd/server", []string{"agent/etcd", "agent/sim/demo", "test/etcdtest"}},
	{"go.etcd.io/etcd/client", []string{"agent/etcd", "agent/sim/demo", "docs/examples", "pkg/kv", "pkg/lease", "pkg/store", "test"}},
}

// neverLinked lists what a folder must not depend on, however indirectly.
var neverLinked = map[string][]string{
	"agent":        {"github.com/charmbracelet", module + "/console"},
	"console":      {"github.com/charmbracelet", "libvirt.org/go", "go.etcd.io/etcd", module + "/agent"},
	"console/tui":  {"libvirt.org/go", "go.etcd.io/etcd", module + "/agent"},
	"agent/guard":  {"google.golang.org/grpc", "go.etcd.io/etcd", "libvirt.org/go"},
	"agent/leader": {"google.golang.org/grpc", "go.etcd.io/etcd", "libvirt.org/go"},
	"agent/local":  {"google.golang.org/grpc", "go.etcd.io/etcd", "libvirt.org/go"},
	"pkg/plan":     {"google.golang.org", "go.etcd.io", "net", "os/exec", "log/slog"},
}

// pure lists the folders whose results depend on their arguments alone, and
// banned what they may not import.
var (
	pure   = []string{"pkg/pool", "pkg/place", "pkg/plan"}
	banned = []string{"context", "crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "os", "sync", "sync/atomic", "syscall"}
)

// ruleFor returns the folder whose rule covers the given folder, the nearest
// one up the tree, or "" if there is none.
func ruleFor(folder string) string {
	for folder != "" {
		if _, ok := mayImport[folder]; ok {
			return folder
		}
		cut := strings.LastIndex(folder, "/")
		folder = folder[:max(cut, 0)]
	}
	return ""
}

// within says whether the folder is the other one or lies below it.
func within(folder, other string) bool {
	return folder == other || strings.HasPrefix(folder, other+"/")
}

// allowed says whether production code of one folder may import the other.
// Both are folders of this module.
func allowed(from, to string) bool {
	rule, target := ruleFor(from), ruleFor(to)
	if rule == "" || target == "" {
		return false
	}
	if rule == target {
		return true
	}
	for _, low := range anywhere {
		if within(to, low) && !slices.Contains(alone, rule) {
			return true
		}
	}
	for _, ok := range mayImport[rule] {
		if parent, below := strings.CutSuffix(ok, "/*"); below && strings.HasPrefix(target, parent+"/") {
			return true
		}
		if ok == target {
			return true
		}
	}
	return false
}

// testAllowed says whether test code of one folder may import the other: more
// than production code may, but pkg still knows neither agent nor console, and
// those two not each other.
func testAllowed(from, to string) bool {
	if ruleFor(from) == "" || ruleFor(to) == "" {
		return false
	}
	if allowed(from, to) || within(to, "test") || within(from, "test") {
		return true
	}
	top, _, _ := strings.Cut(from, "/")
	return !within(from, "pkg/pool") && (within(to, "pkg") || within(to, "proto") || within(to, top))
}
