package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func (a *app) migrateCommand() *cobra.Command {
	var o startOptions
	var dryRun bool
	var plan int64
	out := formatTable
	cmd := &cobra.Command{
		Use: "migrate VM [SERVER]", Short: "Move a running VM to another server without stopping it",
		Long: `Move a running VM to another server without stopping it; with no server named,
to the best one. If something keeps it from moving, everything that does is
told, and nothing has changed. A migration that fails leaves the VM where it is.

--dry-run shows every server with what speaks against it. Its number, given with
--plan, makes sure that the server recommended then is chosen or none.

"holdfast operation cancel ID" ends a migration under way; the VM runs on.

` + waitHelp,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeMove,
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			if dryRun {
				return a.showMigrationPlan(ctx, s, args[:1], out)
			}
			server := ""
			if len(args) > 1 {
				server = args[1]
			}
			return a.operate(ctx, s, args[:1], o, verb{"migrating", "migrated"}, func(ctx context.Context, vm, id string) (*pb.Operation, error) {
				r, err := s.vms.MigrateVM(ctx, &pb.MigrateVMRequest{Vm: vm, Server: server, Why: o.why, RequestId: id, PlanRevision: plan})
				return r.GetOperation(), err
			})
		}),
	}
	whyFlag(cmd, &o.why)
	o.flags(cmd)
	outputFlag(cmd, &out)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show where it could move, and change nothing")
	cmd.Flags().Int64Var(&plan, "plan", 0, "only if the plan still has this `number`")
	return cmd
}

func (a *app) relocateCommand() *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use: "relocate VM SERVER", Short: "Stop a VM and start it on another server",
		Long: `Stop a VM and start it on another server: also for VMs that cannot migrate live.
The guest is asked to shut down, and forced off when the pool's stop-limit has
passed.

` + waitHelp,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeMove,
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			return a.operate(ctx, s, args[:1], o, verb{"relocating", "relocated"}, func(ctx context.Context, vm, id string) (*pb.Operation, error) {
				r, err := s.vms.RelocateVM(ctx, &pb.RelocateVMRequest{Vm: vm, Server: args[1], Why: o.why, RequestId: id})
				return r.GetOperation(), err
			})
		}),
	}
	whyFlag(cmd, &o.why)
	o.flags(cmd)
	return cmd
}

// completeMove suggests a VM, then a server.
func (a *app) completeMove(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeVMs(1)(cmd, args, toComplete)
	}
	return a.completeServers(1)(cmd, args[1:], toComplete)
}

func (a *app) planMigrateCommand() *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: "migrate VM...", Short: "Where VMs could move to, and what speaks against each server; as migrate --dry-run",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs(0),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			return a.showMigrationPlan(ctx, s, args, out)
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) showMigrationPlan(ctx context.Context, s *session, vms []string, out format) error {
	r, err := s.vms.PlanMigration(ctx, &pb.PlanMigrationRequest{Vms: vms})
	if err != nil {
		return err
	}
	return a.tell(out, r, func(p page) []string { return layMigrationPlan(p, r) })
}

func layMigrationPlan(p page, r *pb.PlanMigrationResponse) []string {
	var lines []string
	for i, m := range r.GetVms() {
		if i > 0 {
			lines = append(lines, "")
		}
		head := fmt.Sprintf("%s, now on %s, plan %d", m.GetVm(), dash(m.GetSource()), r.GetRevision())
		if m.GetRefusal() != "" {
			head += ": " + m.GetRefusal()
		}
		lines = append(lines, p.wrapped([]string{head}, 1)...)
		t := text.Table{Columns: []text.Column{{Title: "SERVER"}, {Title: "CAN TAKE IT"}, {Title: "FREE AFTER", Right: true, Drop: 3}, {Title: "NOTE", Drop: 5, Min: 20}}}
		for _, c := range m.GetCandidates() {
			can, free, note := "no", "", ""
			for _, reason := range c.GetReasons() {
				note = strings.TrimPrefix(note+"; "+reason.GetText(), "; ")
			}
			if c.GetOk() {
				can, free = "yes", size(c.GetMemoryFreeAfter())
			}
			if c.GetRecommended() {
				can = "best"
			}
			t.Rows = append(t.Rows, []text.Cell{say(c.GetServer()), say(can), say(dash(free)), say(note)})
		}
		lines = append(lines, p.table(t)...)
	}
	return lines
}

func (a *app) cancelCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "cancel ID...", Short: "Cancel migrations and relocations under way",
		Long: `Cancel migrations and relocations under way. A VM that is being copied runs on
where it is; one that was handed over already stays on its new server.`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeOperations,
		RunE: a.with(func(ctx context.Context, s *session, ids []string) error {
			return a.each(ctx, ids, func(id string) error {
				r, err := s.operations.CancelOperation(ctx, &pb.CancelOperationRequest{Operation: id, Why: why})
				if err == nil {
					a.say("%s: asked to end; to see how it did: holdfast operation wait %s", operationSubject(r.GetOperation()), id)
				}
				return err
			})
		}),
	}
	whyFlag(cmd, &why)
	return cmd
}

func (a *app) watchOperationCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Print an operation at each change until it has ended",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeOperations,
		RunE: a.with(func(ctx context.Context, s *session, ids []string) error {
			stream, err := s.operations.WatchOperation(ctx, &pb.WatchOperationRequest{Operation: ids[0]})
			if err != nil {
				return err
			}
			for {
				m, err := stream.Recv()
				if err != nil {
					return err
				}
				op := m.GetOperation()
				where := strings.Join(strings.Fields(progressText(op.GetProgress())+" "+op.GetPhase()), " ")
				a.say("%s: %s", operationSubject(op), withReason(word(op.GetKind())+", "+where, op.GetError()))
				switch op.GetOutcome() {
				case pb.OperationOutcome_OPERATION_OUTCOME_RUNNING:
				case pb.OperationOutcome_OPERATION_OUTCOME_DONE:
					return nil
				default:
					return exitWith(ExitFailed)
				}
			}
		}),
	}
}
