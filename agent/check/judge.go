package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Verdict is how a line ends.
type Verdict string

// Verdicts. Only Fail makes the check fail.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
)

// Line is one thing that was checked.
type Line struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	// Fix says what to do; empty if nothing is to be done.
	Fix string `json:"fix,omitempty"`
}

// Bounds that lines are judged by.
const (
	// clockWarn: times in history and incidents are from several servers' clocks. No safety rests on them.
	clockWarn = 500 * time.Millisecond
	// clockFail: certificates that were just made are not valid yet on another server.
	clockFail = time.Minute
	// meshWarn is the round trip that live migration and failsafe rounds begin to suffer from.
	meshWarn = 50 * time.Millisecond
)

// Judge returns a line for each thing, in a fixed order.
func Judge(f Facts) []Line {
	j := &judge{f: f}
	for _, look := range []func(){j.pool, j.etcd, j.votes, j.servers, j.versions, j.clocks, j.libvirt, j.storage, j.cpus, j.uuids, j.guards, j.watchdog, j.fencing, j.paths, j.ha} {
		look()
	}
	return j.lines
}

// Worst returns the worst verdict.
func Worst(lines []Line) Verdict {
	worst := OK
	for _, l := range lines {
		if l.Verdict == Fail || l.Verdict == Warn && worst == OK {
			worst = l.Verdict
		}
	}
	return worst
}

type judge struct {
	f     Facts
	lines []Line
}

func (j *judge) add(name string, v Verdict, fix, format string, args ...any) {
	if v == OK {
		fix = ""
	}
	j.lines = append(j.lines, Line{name, v, fmt.Sprintf(format, args...), fix})
}

// peers lists the other servers that answered, or all that did not.
func (j *judge) peers(answered bool) []pool.ServerID {
	var out []pool.ServerID
	for _, id := range slices.Sorted(maps.Keys(j.f.Peers)) {
		if (j.f.Peers[id].Err == "") == answered {
			out = append(out, id)
		}
	}
	return out
}

func join[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

func (j *judge) pool() {
	switch s := j.f.Pool; {
	case s == nil:
		j.add("pool", Fail, "see that etcd runs and its endpoints in the settings are right; systemctl status holdfast-etcd", "etcd does not show the pool: %s", j.f.PoolErr)
	case !s.Servers.Has(j.f.Server):
		j.add("pool", Fail, "holdfast-agent join, with a token of a server of the pool", "%s is not registered with pool %s", j.f.Server, s.Config.Name)
	case s.Corrupt.Len() > 0:
		j.add("pool", Fail, "holdfast status names the keys and what is wrong with them", "%d values in etcd cannot be read", s.Corrupt.Len())
	default:
		j.add("pool", OK, "", "pool %s, %d servers, %d VMs", s.Config.Name, s.Servers.Len(), s.VMs.Len())
	}
}

// etcd compares its answers with what the session's renewals can afford.
func (j *judge) etcd() {
	const fix = "give etcd a disk of its own with fast fsync and a quiet network, or a longer lease: holdfast set pool lease-ttl=..."
	switch {
	case len(j.f.Etcd) == 0:
		j.add("etcd latency", Fail, "see that etcd runs, and that most of its voters do", "etcd did not answer")
		return
	case j.f.EtcdVersionErr != "":
		j.add("etcd latency", Fail, "update etcd", "%s", j.f.EtcdVersionErr)
		return
	case j.f.ElectionErr != "":
		j.add("etcd latency", Fail, "a shorter etcd.election in the settings, or a longer lease-ttl of the pool", "%s", j.f.ElectionErr)
		return
	}
	sorted := slices.Sorted(slices.Values(j.f.Etcd))
	worst, median := sorted[len(sorted)-1], sorted[len(sorted)/2]
	ttl := pool.DefaultTTL
	if j.f.Pool != nil {
		ttl = j.f.Pool.Config.LeaseTTL
	}
	limit := min(time.Second, ttl/6)
	text := fmt.Sprintf("of %d reads half took %v, the slowest %v; a renewal may take %v at a lease of %v", len(sorted), round(median), round(worst), limit, ttl)
	switch {
	case worst >= limit:
		j.add("etcd latency", Fail, fix, "%s", text)
	case worst >= limit/4:
		j.add("etcd latency", Warn, fix, "%s", text)
	default:
		j.add("etcd latency", OK, "", "%s", text)
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

func (j *judge) votes() {
	if j.f.LoseOneErr != "" {
		j.add("etcd votes", Fail, "a third server, or a witness: holdfast-agent join --witness TOKEN", "%s", j.f.LoseOneErr)
		return
	}
	j.add("etcd votes", OK, "", "etcd survives the loss of one server")
}

func (j *judge) servers() {
	if silent := j.peers(false); len(silent) > 0 {
		j.add("servers", Fail, "see that holdfast-agent runs there, and that its port is open from here", "no answer from %s: %s", join(silent), j.f.Peers[silent[0]].Err)
		return
	}
	var slow, blind []pool.ServerID
	for _, id := range j.peers(true) {
		if p := j.f.Peers[id]; !p.EtcdReachable {
			blind = append(blind, id)
		} else if p.RoundTrip > meshWarn {
			slow = append(slow, id)
		}
	}
	switch {
	case len(j.f.Peers) == 0:
		j.add("servers", Fail, "see the line pool", "no server is known")
	case len(blind) > 0:
		j.add("servers", Fail, "see that ports 2379 and 2380 of the voters are open from there", "%s cannot reach etcd", join(blind))
	case len(slow) > 0:
		j.add("servers", Warn, "look at the network between the servers", "%s took more than %v to answer", join(slow), meshWarn)
	case len(j.f.Peers) == 1:
		j.add("servers", Warn, "holdfast-agent token create here, and holdfast-agent join TOKEN on another", "this is the only server: nothing can be restarted elsewhere")
	default:
		j.add("servers", OK, "", "all %d answer, and reach etcd", len(j.f.Peers))
	}
}

func (j *judge) versions() {
	by := map[string][]pool.ServerID{}
	if j.f.Version != "" {
		by[j.f.Version] = []pool.ServerID{}
	}
	for _, id := range j.peers(true) {
		by[j.f.Peers[id].Version] = append(by[j.f.Peers[id].Version], id)
	}
	var words []string
	for _, v := range slices.Sorted(maps.Keys(by)) {
		if len(by[v]) == 0 {
			words = append(words, v+" installed here and not running")
			continue
		}
		words = append(words, v+" on "+join(by[v]))
	}
	if len(by) > 1 {
		j.add("versions", Warn, "update the others too, one at a time; an older agent that rewrites a record drops what only newer ones know", "%s", strings.Join(words, "; "))
		return
	}
	j.add("versions", OK, "", "%s", strings.Join(words, "; "))
}

func (j *judge) clocks() {
	most, who, unknown := time.Duration(0), pool.ServerID(""), []pool.ServerID(nil)
	low, high := time.Duration(0), time.Duration(0)
	for _, id := range j.peers(true) {
		p := j.f.Peers[id]
		if !p.HasClock {
			unknown = append(unknown, id)
			continue
		}
		low, high = min(low, p.Offset), max(high, p.Offset)
		if p.Offset.Abs() > most {
			most, who = p.Offset.Abs(), id
		}
	}
	const fix = "run chrony or systemd-timesyncd on every server"
	switch spread := high - low; {
	case spread >= clockFail:
		j.add("clocks", Fail, fix, "clocks are %v apart, %s most: certificates will not be accepted", spread.Round(time.Millisecond), who)
	case spread >= clockWarn:
		j.add("clocks", Warn, fix, "clocks are %v apart, %s most; nothing rests on that but the times that people read", spread.Round(time.Millisecond), who)
	case len(unknown) > 0:
		j.add("clocks", Warn, "update the agents there", "%s did not say what time it is", join(unknown))
	default:
		j.add("clocks", OK, "", "within %v of each other", spread.Round(time.Millisecond))
	}
}
