package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// showCommand is one thing in full. get returns the API's answer; lay says it to people.
func (a *app) showCommand(use, short string, args cobra.PositionalArgs, names completer,
	show func(ctx context.Context, s *session, p page, args []string) (proto.Message, []string, error),
) *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args, ValidArgsFunction: names,
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			m, lines, err := show(ctx, s, a.page(out == formatWide), args)
			if err != nil {
				return err
			}
			if out.forScripts() {
				return writeMessage(a.env.Out, out, m)
			}
			_, err = fmt.Fprintln(a.env.Out, strings.Join(lines, "\n"))
			return err
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) showVMCommand() *cobra.Command {
	return a.showCommand("show VM", "Show one VM in full: state, reason, rules, claim, failures", cobra.ExactArgs(1), a.completeVMs(1),
		func(ctx context.Context, s *session, p page, args []string) (proto.Message, []string, error) {
			pool, err := s.pool.GetPool(ctx, &pb.GetPoolRequest{})
			if err != nil {
				return nil, nil, err
			}
			r, err := s.vms.GetVM(ctx, &pb.GetVMRequest{Vm: args[0]})
			if err != nil {
				return nil, nil, err
			}
			events, err := s.events.ListEvents(ctx, &pb.ListEventsRequest{Vm: args[0], Limit: shownAtMost})
			if err != nil {
				return nil, nil, err
			}
			return r, append(layVM(p, r.GetVm(), pool.GetPool().GetConfig()), recent(p, events.GetEvents())...), nil
		})
}

// facts is a sheet with longer labels, without what is empty.
type facts struct {
	page  page
	lines []string
}

const factWidth = 16

func (f *facts) add(label, fact string) { f.addToned(label, fact, text.Plain) }

func (f *facts) addToned(label, fact string, tone text.Tone) {
	if fact == "" {
		return
	}
	room := 0
	if f.page.width > 0 {
		room = max(f.page.width-factWidth, 20)
	}
	for i, line := range text.Wrap(text.Clean(fact), room) {
		head := strings.Repeat(" ", factWidth)
		if i == 0 {
			head = text.Pad(label, factWidth, false)
		}
		f.lines = append(f.lines, f.page.paint(text.Dim, head)+f.page.paint(tone, line))
	}
}

func layVM(p page, v *pb.VMView, c *pb.PoolConfig) []string {
	f := &facts{page: p}
	vm, claim := v.GetVm(), v.GetClaim()
	f.addToned("VM", vm.GetId(), text.Title)
	f.addToned("state", withReason(vmWord(v.GetStatus()), v.GetReason())+ageTail(p, v), vmTone(v.GetStatus()))
	f.add("server", vmServer(v))
	f.add("wanted", word(vm.GetDesired())+byWhom(p.now, vm.GetDesiredMark()))
	f.add("HA", haWord(v, c)+byWhom(p.now, vm.GetHaMark()))
	f.add("UUID", vm.GetUuid())
	f.add("size", fmt.Sprintf("%s, %s memory", plural(int(vm.GetCpus()), "CPU"), size(vm.GetMemoryBytes())))
	f.add("priority", word(vm.GetPriority()))
	f.add("prefer", strings.Join(vm.GetPrefer(), ", "))
	f.add("require", strings.Join(vm.GetRequire(), ", "))
	f.add("apart", vm.GetApart())
	f.add("together", vm.GetTogether())
	f.add("restarts", fmt.Sprintf("%d here, then %s, within %s", vm.GetRestarts(), plural(int(vm.GetRelocations()), "move"), durationText(vm.GetWindow())))
	if vm.GetRestartOnGuestShutdown() {
		f.add("", "a guest that shuts itself down is started again")
	}
	f.add("live migration", yesNo(vm.GetMovable()))
	f.add("disk locks", yesNo(vm.GetDiskLocks()))
	f.add("needs", needs(vm.GetNeeds()))
	f.add("claim", claimText(claim))
	f.add("guard", guardWord(v))
	f.add("home", v.GetHome().GetServer())
	for _, x := range v.GetHome().GetFailures() {
		f.add("failure", clockTime(p.now, x.GetAt())+" on "+x.GetServer()+": "+withReason(word(x.GetCause()), x.GetDetail()))
	}
	f.add("gave up", v.GetHome().GetFailedReason())
	return f.lines
}

func ageTail(p page, v *pb.VMView) string {
	if a := age(p.now, v.GetSince()); a != "" {
		return ", for " + a
	}
	return ""
}

func needs(all []*pb.Need) string {
	var out []string
	for _, n := range all {
		out = append(out, word(n.GetKind())+" "+n.GetName())
	}
	return strings.Join(out, ", ")
}

func claimText(c *pb.Claim) string {
	s := word(c.GetPhase())
	if c.GetServer() != "" {
		s += fmt.Sprintf(" by %s, session %d", c.GetServer(), c.GetSession())
	}
	s += fmt.Sprintf(", epoch %d", c.GetEpoch())
	if c.GetServer() == "" && c.GetLastServer() != "" {
		s += ", last on " + c.GetLastServer()
	}
	if c.GetCause() != pb.ReleaseCause_RELEASE_CAUSE_UNSPECIFIED {
		s += ", " + withReason(word(c.GetCause()), c.GetDetail())
	}
	return s
}

func recent(p page, events []*pb.Event) []string {
	if len(events) == 0 {
		return nil
	}
	lines := []string{p.paint(text.Dim, "latest events")}
	for _, e := range events {
		line := "  " + clockTime(p.now, e.GetAt()) + " " + text.Clean(e.GetText())
		if p.width > 0 && !p.wide {
			line = text.Cut(line, p.width)
		}
		lines = append(lines, line)
	}
	return lines
}

func (a *app) showServerCommand() *cobra.Command {
	return a.showCommand("show SERVER", "Show one server in full: state, reason, capacity, fencing", cobra.ExactArgs(1), a.completeServers(1),
		func(ctx context.Context, s *session, p page, args []string) (proto.Message, []string, error) {
			r, err := s.servers.GetServer(ctx, &pb.GetServerRequest{Server: args[0]})
			if err != nil {
				return nil, nil, err
			}
			events, err := s.events.ListEvents(ctx, &pb.ListEventsRequest{Server: args[0], Limit: shownAtMost})
			if err != nil {
				return nil, nil, err
			}
			return r, append(layServer(p, r.GetServer()), recent(p, events.GetEvents())...), nil
		})
}

func layServer(p page, v *pb.ServerView) []string {
	f := &facts{page: p}
	s, m := v.GetServer(), v.GetMember()
	f.addToned("server", s.GetId(), text.Title)
	f.addToned("state", withReason(serverWords(v), v.GetReason()), serverTone(v))
	f.add("address", s.GetAddress())
	f.add("host UUID", s.GetHostUuid())
	if s.GetMaintenance() {
		f.add("maintenance", "on"+byWhom(p.now, s.GetMaintenanceMark()))
	}
	if s.GetInboundLock() {
		f.add("inbound lock", "on"+byWhom(p.now, s.GetInboundLockMark()))
	}
	f.add("VMs", fmt.Sprint(v.GetVms()))
	f.add("CPUs", fmt.Sprintf("%d promised of %s", v.GetCpusUsed(), unknownZero(fmt.Sprint(m.GetCpus()))))
	f.add("memory", fmt.Sprintf("%s promised of %s, %s kept for the server", size(v.GetMemoryUsedBytes()), unknownZero(size(m.GetMemoryBytes())), size(s.GetReservedMemoryBytes())))
	f.add("agent", m.GetVersion())
	f.add("session", fmt.Sprint(v.GetSession()))
	f.add("held by", serverGuard(v))
	f.add("etcd", voterWord(m))
	if m.GetStorageLost() {
		f.addToned("storage", "lost: it does not reach the shared storage", text.Bad)
	}
	for _, l := range m.GetLacks() {
		f.add("cannot run", l.GetVm()+": "+strings.Join(l.GetMissing(), ", "))
	}
	for _, d := range s.GetFence() {
		f.add("power", fenceText(d))
	}
	if fence := v.GetFence(); fence.GetProof() != pb.Proof_PROOF_UNSPECIFIED {
		f.add("fenced", fmt.Sprintf("%s by %s, session %d: %s (%s)", clockTime(p.now, fence.GetAt()), fence.GetBy(), fence.GetSession(), fence.GetEvidence(), word(fence.GetProof())))
	}
	for _, key := range slices.Sorted(maps.Keys(s.GetLabels())) {
		f.add("label", key+"="+s.GetLabels()[key])
	}
	return f.lines
}

func fenceText(d *pb.FenceDevice) string {
	var params []string
	for _, k := range slices.Sorted(maps.Keys(d.GetParams())) {
		params = append(params, k+"="+d.GetParams()[k])
	}
	for _, k := range slices.Sorted(maps.Keys(d.GetSecretFiles())) {
		params = append(params, k+" from "+d.GetSecretFiles()[k])
	}
	return strings.TrimSpace(d.GetAgent() + " " + strings.Join(params, " "))
}

func (a *app) showPoolCommand() *cobra.Command {
	return a.showCommand("show", "Show the pool's settings", cobra.NoArgs, cobra.NoFileCompletions,
		func(ctx context.Context, s *session, p page, _ []string) (proto.Message, []string, error) {
			r, err := s.pool.GetPool(ctx, &pb.GetPoolRequest{})
			if err != nil {
				return nil, nil, err
			}
			return r, layPool(p, r.GetPool()), nil
		})
}

// layPool prints the settings in the words of `set pool KEY=VALUE`.
func layPool(p page, v *pb.PoolView) []string {
	f := &facts{page: p}
	c := v.GetConfig()
	f.addToned("pool", c.GetName(), text.Title)
	f.add("HA", haSentence(c, byWhom(p.now, c.GetHaMark())))
	if c.GetFrozen() {
		f.add("freeze", "on"+byWhom(p.now, c.GetFrozenMark()))
	}
	f.add("etcd data", c.GetIncarnation())
	f.lines = append(f.lines, p.paint(text.Dim, "settings"))
	for _, s := range poolSettings(c) {
		f.lines = append(f.lines, "  "+s[0]+"="+text.Clean(s[1]))
	}
	return f.lines
}

// poolSettings are the present values of the words that `set pool` knows.
func poolSettings(c *pb.PoolConfig) [][2]string {
	return [][2]string{
		{"ttl", durationText(c.GetLeaseTtl())},
		{"return", onOff(c.GetReturnHome())},
		{"shutdown", word(c.GetShutdown())},
		{"tolerate", fmt.Sprint(c.GetTolerate())},
		{"lock-bars-failover", onOff(c.GetLockBarsFailover())},
		{"on-isolation", word(c.GetOnIsolation())},
		{"isolation-grace", durationText(c.GetIsolationGrace())},
		{"trust-guard-alone", onOff(c.GetTrustGuardAlone())},
		{"suspect-after", durationText(c.GetSuspectAfter())},
		{"power-on", onOff(c.GetPowerOn())},
		{"stop-limit", durationText(c.GetStopLimit())},
		{"migrations", fmt.Sprint(c.GetMigrations())},
		{"migrations-per-server", fmt.Sprint(c.GetMigrationsPerServer())},
		{"migrate-bandwidth", fmt.Sprint(c.GetMigrateBandwidth())},
		{"auto-converge", onOff(c.GetAutoConverge())},
		{"migrate-limit", durationText(c.GetMigrateLimit())},
	}
}

func (a *app) showOperationCommand() *cobra.Command {
	return a.showCommand("show ID", "Show one operation in full", cobra.ExactArgs(1), a.completeOperations,
		func(ctx context.Context, s *session, p page, args []string) (proto.Message, []string, error) {
			r, err := s.operations.GetOperation(ctx, &pb.GetOperationRequest{Operation: args[0]})
			if err != nil {
				return nil, nil, err
			}
			o := r.GetOperation()
			f := &facts{page: p}
			f.addToned("operation", o.GetId(), text.Title)
			f.add("what", strings.TrimSpace(word(o.GetKind())+" "+operationSubject(o)))
			f.addToned("state", withReason(word(o.GetOutcome()), o.GetError()), outcomeTone(o.GetOutcome()))
			f.add("phase", o.GetPhase())
			f.add("from", o.GetSource())
			f.add("done", progressText(o.GetProgress()))
			f.add("asked", strings.TrimPrefix(byWhom(p.now, o.GetRequested()), " "))
			f.add("request", o.GetRequestId())
			f.add("took", took(o))
			return r, f.lines, nil
		})
}
