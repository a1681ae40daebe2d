package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func (a *app) capacityCommand() *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: "capacity", Short: "Say whether there is room for the VMs of each server, should it be lost", Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, s *session, _ []string) error {
			r, err := s.pool.GetCapacity(ctx, &pb.GetCapacityRequest{})
			if err != nil {
				return err
			}
			return a.tell(out, r, func(p page) []string { return layCapacity(p, r.GetCapacity()) })
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) planLoseCommand() *cobra.Command {
	out := formatTable
	cmd := &cobra.Command{
		Use: "lose SERVER...", Short: "What if these servers were lost now: what would start where, when, and what would wait",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeServers(0),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			r, err := s.pool.PlanLoss(ctx, &pb.PlanLossRequest{Servers: args})
			if err != nil {
				return err
			}
			return a.tell(out, r, func(p page) []string { return layLoss(p, args, r) })
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func layLoss(p page, servers []string, r *pb.PlanLossResponse) []string {
	count := map[string]int{}
	t := text.Table{Columns: []text.Column{{Title: "VM"}, {Title: "PRIO", Drop: 4}, {Title: "MEM", Right: true, Drop: 3}, {Title: "WHAT"},
		{Title: "TO"}, {Title: "AFTER", Right: true, Drop: 2}, {Title: "WHY", Drop: 5, Min: 20}}}
	for _, v := range r.GetVms() {
		count[v.GetOutcome()]++
		after := ""
		if v.GetAfter() != nil {
			after = "~" + tenths(v.GetAfter().AsDuration())
		}
		tone := text.Bad
		if v.GetTo() != "" {
			tone = text.Good
		}
		t.Rows = append(t.Rows, []text.Cell{say(v.GetVm()), say(v.GetPriority()), say(size(v.GetMemoryBytes())),
			{Text: strings.ToLower(v.GetOutcome()), Tone: tone}, say(dash(v.GetTo())), say(after), say(v.GetReason())})
	}
	head := fmt.Sprintf("if %s were lost now: %s", strings.Join(servers, ", "), plural(len(r.GetVms()), "VM"))
	for _, o := range []string{"RESTARTS", "WAITS", "UNFENCED", "LOST"} {
		if count[o] > 0 {
			head += fmt.Sprintf(", %d %s", count[o], strings.ToLower(o))
		}
	}
	lines := []string{head, "room for the loss of another: " + capacityWord(r.GetCapacityAfter())}
	if len(t.Rows) > 0 {
		lines = append(lines, p.table(t)...)
	}
	return p.wrapped(lines, 2)
}

func layCapacity(p page, c *pb.Capacity) []string {
	lines := []string{fmt.Sprintf("%s: %s (the pool is to tolerate the loss of %s)", capacityWord(c), c.GetText(), plural(int(c.GetTolerate()), "server"))}
	t := text.Table{Columns: []text.Column{{Title: "IF LOST"}, {Title: "HA VMS", Right: true}, {Title: "NEEDS", Right: true}, {Title: "VERDICT"},
		{Title: "LEFT", Right: true, Drop: 2}, {Title: "NO PLACE FOR", Drop: 1, Min: 16}}}
	for _, r := range c.GetRows() {
		verdict := text.Cell{Text: "fits", Tone: text.Good}
		if !r.GetFits() {
			verdict = text.Cell{Text: "NO", Tone: text.Bad}
		}
		t.Rows = append(t.Rows, []text.Cell{say(r.GetServer()), say(fmt.Sprint(r.GetHaVms())), say(size(r.GetNeededBytes())), verdict,
			say(size(r.GetLeftBytes())), say(strings.Join(r.GetNoPlace(), ", "))})
	}
	if len(t.Rows) > 0 {
		lines = append(lines, p.table(t)...)
	}
	return p.wrapped(lines, 1)
}

// capacityWord is the verdict with what is at risk.
func capacityWord(c *pb.Capacity) string {
	switch c.GetVerdict() {
	case pb.CapacityVerdict_CAPACITY_VERDICT_OK:
		return "OK"
	case pb.CapacityVerdict_CAPACITY_VERDICT_AT_RISK:
		return "AT RISK (" + strings.Join(c.GetServersAtRisk(), ", ") + ")"
	case pb.CapacityVerdict_CAPACITY_VERDICT_OVERCOMMITTED:
		return "OVERCOMMITTED"
	case pb.CapacityVerdict_CAPACITY_VERDICT_NOT_APPLICABLE:
		return "n/a"
	}
	return "unknown"
}
