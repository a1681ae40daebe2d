package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

const drillLong = `Test the pool's HA: make a small VM, a canary, do bad things to it, measure what
the pool does about it, and remove it. No other VM is touched.

Levels, in the order of their severity:

  qemu       the canary's QEMU dies, and must run again
  agent      the agent of its server dies and is started again by systemd; the
             canary must run on. Done by default only on a server without other
             VMs with HA, which would stop if the agent were not started again
  isolation  the agent of its server cannot reach etcd: its guard must stop the
             canary, and the leader must start it elsewhere. Only if asked for,
             and only on a server without any other VM

The times are held against what the pool's lease promises. Exit code 0: all went
well and in time; 5: something did not. The canary is removed in any case, also
after an interrupt; what an earlier drill left: holdfast drill clean`

// drillOptions are the flags of drill.
type drillOptions struct {
	levels       []string
	isolate      string
	server       string
	storage      string
	report       string
	besideOthers bool
	cutPower     bool
	why          string
	out          format
}

func (a *app) drillCommand() *cobra.Command {
	o := drillOptions{out: formatTable}
	cmd := &cobra.Command{
		Use: "drill", Short: "Test the pool's HA with a VM that is made for it, and write a report", Long: drillLong, GroupID: "pool",
		Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, s *session, _ []string) error { return a.drill(ctx, s, o) }),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.levels, "level", nil, "`levels` to play: qemu, agent, isolation (default qemu,agent)")
	f.StringVar(&o.isolate, "isolate", "", "also level isolation, of this `server`")
	f.StringVar(&o.server, "server", "", "the `server` on which the canary begins")
	f.StringVar(&o.storage, "storage", "", "`folder` on the shared storage for the canary's disk")
	f.StringVar(&o.report, "report", "", "also write the report to this `file`: JSON if it ends in .json, else Markdown")
	f.BoolVar(&o.besideOthers, "beside-others", false, "level agent although other VMs with HA run on that server")
	f.BoolVar(&o.cutPower, "cut-power", false, "level isolation although that server then loses its power")
	whyFlag(cmd, &o.why)
	outputFlag(cmd, &o.out)
	must(cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]string{"qemu", "agent", "isolation"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("isolate", a.completeServers(0)))
	must(cmd.RegisterFlagCompletionFunc("server", a.completeServers(0)))
	cmd.AddCommand(a.drillCleanCommand())
	return cmd
}

func (a *app) drillCleanCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "clean", Short: "Remove the canaries that earlier drills left", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, s *session, _ []string) error {
			st, err := s.snapshot(ctx)
			if err != nil {
				return err
			}
			left := canaries(st)
			if len(left) == 0 {
				a.say("no drill has left a canary")
			}
			for _, name := range left {
				r, err := s.drills.RemoveCanary(ctx, &pb.RemoveCanaryRequest{Canary: name, Why: why})
				if err != nil {
					return err
				}
				a.say("%s: removed%s", name, map[bool]string{true: " with its disk", false: "; its disk was gone already"}[r.GetDiskDeleted()])
			}
			return nil
		}),
	}
	whyFlag(cmd, &why)
	return cmd
}

func canaries(st *state) []string {
	var out []string
	for _, v := range sorted(st.vms) {
		if v.GetVm().GetCanary() {
			out = append(out, v.GetVm().GetId())
		}
	}
	return out
}

// drillPlan is what a drill is going to do.
type drillPlan struct {
	levels []pool.DrillLevel
	// server is where the canary begins; empty: anywhere.
	server string
	// skipped are levels that were not asked for by name and cannot be played, each with why.
	skipped map[pool.DrillLevel]string
}

// planDrill chooses levels and the server, or says why what was asked for cannot be.
func planDrill(st *state, o drillOptions) (drillPlan, error) {
	p := drillPlan{server: o.server, skipped: map[pool.DrillLevel]string{}}
	words := o.levels
	if len(words) == 0 {
		words = []string{"qemu", "agent"}
	}
	for _, w := range words {
		l, err := pool.ParseDrillLevel(w)
		if err != nil {
			return p, err
		}
		p.levels = append(p.levels, l)
	}
	if o.isolate != "" {
		p.levels = append(p.levels, pool.DrillIsolation)
		if p.server != "" && p.server != o.isolate {
			return p, usagef("the canary begins on the server that is to be isolated: --server %s and --isolate %s are not the same", p.server, o.isolate)
		}
		p.server = o.isolate
	}
	slices.Sort(p.levels)
	p.levels = slices.Compact(p.levels)
	if p.server != "" && st.servers[p.server] == nil {
		return p, fmt.Errorf("no server %s in this pool: %w", p.server, pool.ErrNotFound)
	}
	return p, p.choose(st, o)
}

// choose finds a server for the most severe level.
func (p *drillPlan) choose(st *state, o drillOptions) error {
	fit := func(keep func(*pb.ServerView) bool) string {
		best := ""
		for _, v := range sorted(st.servers) {
			name := v.GetServer().GetId()
			if p.server != "" && p.server != name || !takesVMs(v) || !keep(v) {
				continue
			}
			if best == "" || st.servers[best].GetLeader() && !v.GetLeader() {
				best = name // anybody rather than the leader: its loss costs an election besides
			}
		}
		return best
	}
	if slices.Contains(p.levels, pool.DrillIsolation) {
		p.server = fit(func(v *pb.ServerView) bool {
			return v.GetVms() == 0 && (o.cutPower || len(v.GetServer().GetFence()) == 0)
		})
		if p.server == "" {
			return pool.Refuse("OTHER_VMS", "empty one (holdfast maintenance enter SERVER, then maintenance exit SERVER), or leave level isolation out; --cut-power if it may lose its power",
				"no server can be isolated: each runs VMs, takes none, or has power switches%s", asked(o))
		}
		return nil
	}
	if !slices.Contains(p.levels, pool.DrillAgent) || o.besideOthers {
		return nil
	}
	free := fit(func(v *pb.ServerView) bool { return !runsProtected(st, v.GetServer().GetId()) })
	switch {
	case free != "":
		p.server = free
	case len(o.levels) > 0:
		return pool.Refuse("OTHER_VMS", "--beside-others, if systemd starts agents again there; or leave level agent out",
			"every server that takes VMs runs others with HA%s", asked(o))
	default:
		p.levels = slices.DeleteFunc(p.levels, func(l pool.DrillLevel) bool { return l == pool.DrillAgent })
		p.skipped[pool.DrillAgent] = "every server runs other VMs with HA; --beside-others plays it all the same"
	}
	return nil
}

func asked(o drillOptions) string {
	if name := max(o.isolate, o.server); name != "" {
		return " (asked for: " + name + ")"
	}
	return ""
}

func takesVMs(v *pb.ServerView) bool {
	s := v.GetServer()
	return v.GetMember() != nil && !s.GetInboundLock() && !s.GetMaintenance() && slices.Contains(v.GetStates(), pb.ServerState_SERVER_STATE_UP)
}

func runsProtected(st *state, server string) bool {
	for _, v := range st.vms {
		if v.GetClaim().GetServer() == server && v.GetProtected() {
			return true
		}
	}
	return false
}

// drill plays a drill from the preparation to the report.
func (a *app) drill(ctx context.Context, s *session, o drillOptions) error {
	st, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	plan, err := planDrill(st, o)
	if err != nil {
		return err
	}
	d := &drillRun{app: a, session: s, options: o, plan: plan, watch: newPoolWatch(s)}
	d.report.begin(st, plan, a.env.Now())
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go d.watch.run(watching)
	code := d.play(ctx)
	if err := d.report.write(a, o); err != nil {
		return err
	}
	return exitWith(code)
}

// writeFile writes a report; "-" is not a file name here: the terminal has it already.
func (r *drillReport) writeFile(name string) error {
	var b strings.Builder
	var err error
	if strings.HasSuffix(name, ".json") {
		err = r.asJSON(&b)
	} else {
		r.asMarkdown(&b)
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a report has no secrets
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// Bounds of a drill's steps: far above every budget, so that what is slow is measured rather than given up.
const (
	canaryStarts = 90 * time.Second
	drillLimit   = 2 * time.Minute
	drillEnd     = 90 * time.Second
	drillLook    = 100 * time.Millisecond
)
