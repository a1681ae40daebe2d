package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// addPlannedWork adds the commands that empty servers, shut them down, and say beforehand what would happen.
func (a *app) addPlannedWork(root, server *cobra.Command) {
	maintenance := a.group("maintenance", "Empty a server for work on it, and fill it again", "server")
	maintenance.AddCommand(a.enterCommand(), a.exitCommand())
	planned := a.group("plan", "Say what would happen, and change nothing", "see")
	planned.AddCommand(a.planLoseCommand(), a.planMaintenanceCommand(), a.planReturnCommand(), a.planMigrateCommand())
	root.AddCommand(maintenance, planned)
	server.AddCommand(a.powerServerCommand("shutdown", false), a.powerServerCommand("reboot", true), a.removeServerCommand("remove SERVER"))
	for _, c := range []*cobra.Command{a.powerServerCommand("shutdown", false), a.powerServerCommand("reboot", true)} {
		c.GroupID = "server"
		root.AddCommand(c)
	}
	capacity := a.capacityCommand()
	capacity.GroupID = "see"
	root.AddCommand(capacity)
}

func (a *app) enterCommand() *cobra.Command {
	var o startOptions
	var dryRun, restart bool
	var plan int64
	out := formatTable
	cmd := &cobra.Command{
		Use: "enter SERVER", Short: "Move every VM off a server, and let none arrive",
		Long: `Move every VM off a server, live, and let none arrive from this moment on.

VMs that cannot migrate live stay, unless --restart is given: then they are
stopped there and started elsewhere. While something stays the server is
"blocked", with the reasons, and goes on as soon as what blocks it changes.

--dry-run shows the plan and changes nothing. Its number, given with --plan,
makes sure that this plan is carried out or none.

` + waitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			if dryRun {
				return a.showMaintenancePlan(ctx, s, args[0], restart, out)
			}
			return a.operateServer(ctx, s, args[0], o, verb{"being emptied", "in maintenance and empty"}, func(ctx context.Context, id string) (*pb.Operation, error) {
				r, err := s.servers.EnterMaintenance(ctx, &pb.EnterMaintenanceRequest{Server: args[0], Why: o.why, RequestId: id, PlanRevision: plan, RestartUnmovable: restart})
				return r.GetOperation(), err
			})
		}),
	}
	o.flags(cmd)
	whyFlag(cmd, &o.why)
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would happen to each VM, and change nothing")
	cmd.Flags().BoolVar(&restart, "restart", false, "stop VMs that cannot migrate live, and start them elsewhere")
	cmd.Flags().Int64Var(&plan, "plan", 0, "only if the plan still has this `number`")
	return cmd
}

func (a *app) planMaintenanceCommand() *cobra.Command {
	var restart bool
	out := formatTable
	cmd := &cobra.Command{
		Use: "maintenance SERVER", Short: "What maintenance of a server would do to each VM; as maintenance enter --dry-run",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			return a.showMaintenancePlan(ctx, s, args[0], restart, out)
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&restart, "restart", false, "as with maintenance enter")
	return cmd
}

func (a *app) planReturnCommand() *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: "return SERVER", Short: "Which VMs the end of a server's maintenance would bring back; as maintenance exit --dry-run",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			return a.showReturnPlan(ctx, s, args[0], out)
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) exitCommand() *cobra.Command {
	var why string
	var dryRun bool
	var plan int64
	out := formatTable
	cmd := &cobra.Command{
		Use: "exit SERVER", Short: "End a server's maintenance; VMs that left because of it come back",
		Long: `End a server's maintenance. With the pool's setting return=on the VMs that left
because of it come back, live, unless somebody moved them by hand since.

--dry-run shows which VMs would come, which would not and why, and changes
nothing. Its number, given with --plan, makes sure that this plan is carried
out or none.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			if dryRun {
				return a.showReturnPlan(ctx, s, args[0], out)
			}
			r, err := s.servers.ExitMaintenance(ctx, &pb.ExitMaintenanceRequest{Server: args[0], Why: why, PlanRevision: plan, RequestId: requestID("")})
			if err != nil {
				return err
			}
			a.say("%s: %s", args[0], serverWords(r.GetServer()))
			if back := r.GetComingBack(); len(back) > 0 {
				a.say("coming back: %s", strings.Join(back, ", "))
			}
			return nil
		}),
	}
	whyFlag(cmd, &why)
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show which VMs would come back, and change nothing")
	cmd.Flags().Int64Var(&plan, "plan", 0, "only if the plan still has this `number`")
	return cmd
}

func (a *app) powerServerCommand(word string, reboot bool) *cobra.Command {
	var o startOptions
	var evacuate bool
	doing, done := "shutting down", "shut down"
	if reboot {
		doing, done = "rebooting", "back after its reboot"
	}
	cmd := &cobra.Command{
		Use: word + " SERVER", Short: strings.ToUpper(word[:1]) + word[1:] + " a server; refused while HA VMs run there, unless --evacuate",
		Long: strings.ToUpper(word[:1]) + word[1:] + ` a server. Refused while HA VMs run there, unless --evacuate: then all VMs leave
first. VMs that cannot leave, and those without HA, are shut down with it.

` + waitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			return a.operateServer(ctx, s, args[0], o, verb{doing, done}, func(ctx context.Context, id string) (*pb.Operation, error) {
				r, err := s.servers.ShutdownServer(ctx, &pb.ShutdownServerRequest{Server: args[0], Evacuate: evacuate, Reboot: reboot, RequestId: id, Why: o.why})
				return r.GetOperation(), err
			})
		}),
	}
	o.flags(cmd)
	whyFlag(cmd, &o.why)
	cmd.Flags().BoolVar(&evacuate, "evacuate", false, "move its VMs elsewhere first")
	return cmd
}

// operateServer starts an operation on a whole server and follows it to its end. There is none where nothing was left
// to do.
func (a *app) operateServer(ctx context.Context, s *session, server string, o startOptions, v verb, start func(ctx context.Context, requestID string) (*pb.Operation, error)) error {
	id := requestID(o.requestID)
	op, err := start(ctx, id)
	if errors.Is(err, pool.ErrOutcomeUnknown) {
		op, err = a.findRequest(ctx, s, id, err)
	}
	switch {
	case err != nil:
		return err
	case op == nil:
		a.say("%s: %s", server, v.done)
		return nil
	case op.GetServer() != server:
		return usagef("request %s was %s of %s; use another --request-id", id, word(op.GetKind()), operationSubject(op))
	case o.noWait:
		a.say("%s", op.GetId())
		return nil
	}
	return exitWith(a.await(ctx, s, []*pb.Operation{op}, o.timeout, v))
}

func (a *app) showMaintenancePlan(ctx context.Context, s *session, server string, restart bool, out format) error {
	r, err := s.servers.PlanMaintenance(ctx, &pb.PlanMaintenanceRequest{Server: server, RestartUnmovable: restart})
	if err != nil {
		return err
	}
	return a.tell(out, r, func(p page) []string { return layMaintenancePlan(p, server, r) })
}

func (a *app) showReturnPlan(ctx context.Context, s *session, server string, out format) error {
	r, err := s.servers.PlanMaintenanceExit(ctx, &pb.PlanMaintenanceExitRequest{Server: server})
	if err != nil {
		return err
	}
	return a.tell(out, r, func(p page) []string { return layReturnPlan(p, server, r) })
}

// tell prints an answer of the API: as it is for scripts, laid out for people.
func (a *app) tell(out format, m proto.Message, lay func(p page) []string) error {
	if out.forScripts() {
		return writeMessage(a.env.Out, out, m)
	}
	_, err := fmt.Fprintln(a.env.Out, strings.Join(lay(a.page(out == formatWide)), "\n"))
	return err
}

func layMaintenancePlan(p page, server string, r *pb.PlanMaintenanceResponse) []string {
	count := map[pb.LeaveBy]int{}
	t := text.Table{Columns: []text.Column{{Title: "VM"}, {Title: "MEM", Right: true, Drop: 3}, {Title: "HOW"}, {Title: "TO"},
		{Title: "ABOUT", Right: true, Drop: 4}, {Title: "NOTE", Drop: 5, Min: 20}}}
	for _, m := range r.GetMoves() {
		count[m.GetHow()]++
		about := ""
		if m.GetExpected() != nil {
			about = tenths(m.GetExpected().AsDuration())
		}
		t.Rows = append(t.Rows, []text.Cell{say(m.GetVm()), say(size(m.GetMemoryBytes())), {Text: word(m.GetHow()), Tone: leaveTone(m.GetHow())},
			say(dash(m.GetTarget())), say(about), say(m.GetReason())})
	}
	head := fmt.Sprintf("maintenance of %s, plan %d: %s", server, r.GetPlanRevision(), plural(len(r.GetMoves()), "VM"))
	for _, how := range []pb.LeaveBy{pb.LeaveBy_LEAVE_BY_LIVE, pb.LeaveBy_LEAVE_BY_RESTART, pb.LeaveBy_LEAVE_BY_WAITS, pb.LeaveBy_LEAVE_BY_STAYS} {
		if count[how] > 0 {
			head += fmt.Sprintf(", %d %s", count[how], word(how))
		}
	}
	lines := []string{head}
	if d := r.GetExpected().AsDuration(); d > 0 {
		lines[0] += ", about " + span(d)
	}
	lines = append(lines, afterwards(r.GetCapacityBefore(), r.GetCapacityAfter(), r.GetMemoryPercentBefore(), r.GetMemoryPercentAfter())...)
	if len(t.Rows) > 0 {
		lines = append(lines, p.table(t)...)
	}
	return p.wrapped(lines, 3)
}

func layReturnPlan(p page, server string, r *pb.PlanMaintenanceExitResponse) []string {
	coming := 0
	t := text.Table{Columns: []text.Column{{Title: "VM"}, {Title: "MEM", Right: true, Drop: 3}, {Title: "FROM"}, {Title: "COMES"},
		{Title: "ABOUT", Right: true, Drop: 4}, {Title: "WHY", Drop: 5, Min: 20}}}
	for _, v := range r.GetReturns() {
		about, comes := "", text.Cell{Text: "no", Tone: text.Bad}
		if v.GetComes() {
			coming++
			comes = text.Cell{Text: "yes", Tone: text.Good}
		}
		if v.GetExpected() != nil {
			about = tenths(v.GetExpected().AsDuration())
		}
		t.Rows = append(t.Rows, []text.Cell{say(v.GetVm()), say(size(v.GetMemoryBytes())), say(dash(v.GetFrom())), comes, say(about), say(v.GetReason())})
	}
	head := fmt.Sprintf("end of maintenance of %s, plan %d: %d of %s that belong there come back", server, r.GetPlanRevision(), coming, plural(len(r.GetReturns()), "VM"))
	if d := r.GetExpected().AsDuration(); d > 0 {
		head += ", about " + span(d)
	}
	if n := len(r.GetStaying()); n > 0 {
		head += fmt.Sprintf("; %s that did not leave: %s", plural(n, "VM"), strings.Join(r.GetStaying(), ", "))
	}
	lines := append([]string{head}, afterwards(r.GetCapacityBefore(), r.GetCapacityAfter(), r.GetMemoryPercentBefore(), r.GetMemoryPercentAfter())...)
	if len(t.Rows) > 0 {
		lines = append(lines, p.table(t)...)
	}
	return p.wrapped(lines, 3)
}

// afterwards says what the pool can survive, and how full it is, after a plan.
func afterwards(before, after *pb.Capacity, memoryBefore, memoryAfter int32) []string {
	return []string{fmt.Sprintf("room for the loss of servers: %s -> %s", capacityWord(before), capacityWord(after)),
		fmt.Sprintf("memory promised: %d%% -> %d%%", memoryBefore, memoryAfter)}
}

// wrapped breaks the first n lines to the width of the terminal.
func (p page) wrapped(lines []string, n int) []string {
	if p.wide || p.width <= 0 {
		return lines
	}
	var out []string
	for i, l := range lines {
		if i < n {
			out = append(out, text.Wrap(text.Clean(l), p.width)...)
			continue
		}
		out = append(out, l)
	}
	return out
}

func leaveTone(how pb.LeaveBy) text.Tone {
	switch how {
	case pb.LeaveBy_LEAVE_BY_LIVE:
		return text.Good
	case pb.LeaveBy_LEAVE_BY_RESTART:
		return text.Busy
	}
	return text.Bad
}
