package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// incidentCommand is the family of commands about records of outages.
func (a *app) incidentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "incident", Short: "Show what happened in an outage, and for how long each VM was away", GroupID: "see",
		Args: cobra.NoArgs, RunE: a.run(func(cmd *cobra.Command, _ []string) error { return cmd.Help() }),
	}
	cmd.AddCommand(a.listIncidentsCommand(), a.showIncidentCommand())
	return cmd
}

func (a *app) listIncidentsCommand() *cobra.Command {
	var r pb.ListIncidentsRequest
	cmd := a.showCommand("list", "List the outages on record, oldest first", cobra.NoArgs, nil,
		func(ctx context.Context, s *session, p page, _ []string) (proto.Message, []string, error) {
			resp, err := s.events.ListIncidents(ctx, &r)
			if err != nil {
				return nil, nil, err
			}
			return resp, layIncidents(p, resp.GetIncidents()), nil
		})
	cmd.Flags().StringVar(&r.Server, "server", "", "only those that concern this `server`")
	cmd.Flags().StringVar(&r.Vm, "vm", "", "only those that concern this `VM`")
	cmd.Flags().BoolVar(&r.OpenOnly, "open", false, "only those in which a VM is not settled yet")
	cmd.Flags().Int32Var(&r.Limit, "limit", 30, "at most so many, the latest (0: all that are kept)")
	must(cmd.RegisterFlagCompletionFunc("server", a.completeServers(0)))
	must(cmd.RegisterFlagCompletionFunc("vm", a.completeVMs(0)))
	return cmd
}

func (a *app) showIncidentCommand() *cobra.Command {
	return a.showCommand("show [INCIDENT]", "Show one outage in full: time line, proof, what moved where and why (the last, if none is named)", cobra.MaximumNArgs(1), a.completeIncidents(),
		func(ctx context.Context, s *session, p page, args []string) (proto.Message, []string, error) {
			name := "last"
			if len(args) > 0 {
				name = args[0]
			}
			resp, err := s.events.GetIncident(ctx, &pb.GetIncidentRequest{Incident: name})
			if err != nil {
				return nil, nil, err
			}
			return resp, layIncident(p, resp), nil
		})
}

func layIncidents(p page, all []*pb.Incident) []string {
	columns, shown := p.columns(
		text.Column{Title: "INCIDENT"}, text.Column{Title: "BEGAN", Drop: 4}, text.Column{Title: "STATE", Drop: 2},
		text.Column{Title: "VMS", Right: true, Drop: 3}, text.Column{Title: "LONGEST", Right: true, Drop: 3}, text.Column{Title: "PROOF", Drop: 5},
		text.Column{Title: "WHAT", Min: 30, Drop: 1})
	t := text.Table{Columns: columns}
	for _, i := range all {
		state := text.Cell{Text: "over"}
		if i.GetEnded() == nil {
			state = text.Cell{Text: "open", Tone: text.Bad}
		}
		t.Rows = append(t.Rows, pick([]text.Cell{
			say(i.GetId()), say(clockTime(p.now, i.GetBegan())), state, say(fmt.Sprint(len(i.GetVms()))), say(longest(i)), say(proofs(i)), say(i.GetWhy()),
		}, shown))
	}
	if len(t.Rows) == 0 {
		return []string{"no incidents on record"}
	}
	return p.table(t)
}

// longest is the longest downtime of an incident's VMs.
func longest(i *pb.Incident) string {
	var most time.Duration
	for _, v := range i.GetVms() {
		most = max(most, v.GetDowntime().AsDuration())
	}
	if most == 0 {
		return "-"
	}
	return tenths(most)
}

func proofs(i *pb.Incident) string {
	var out []string
	for _, s := range i.GetServers() {
		if s.GetProof() != pb.Proof_PROOF_UNSPECIFIED {
			out = append(out, word(s.GetProof()))
		}
	}
	return dash(strings.Join(out, ", "))
}

func layIncident(p page, r *pb.GetIncidentResponse) []string {
	i := r.GetIncident()
	f := &facts{page: p}
	f.addToned("incident", i.GetId(), text.Title)
	f.add("what", i.GetWhy())
	f.add("began", clockTime(p.now, i.GetBegan()))
	if i.GetEnded() == nil {
		f.addToned("state", "open: a VM is not settled yet", text.Bad)
	} else {
		f.add("ended", clockTime(p.now, i.GetEnded())+", after "+tenths(i.GetEnded().AsTime().Sub(i.GetBegan().AsTime())))
	}
	for _, s := range i.GetServers() {
		proof := "nothing is proven"
		if s.GetProof() != pb.Proof_PROOF_UNSPECIFIED {
			proof = fmt.Sprintf("proof %s: %s (%s)", word(s.GetProof()), s.GetEvidence(), s.GetFencedBy())
		}
		f.add("server", s.GetServer()+", "+proof)
	}
	f.add("recorded by", i.GetBy())
	lines := append(f.lines, "")
	lines = append(lines, layIncidentVMs(p, i.GetVms())...)
	lines = append(lines, "", p.paint(text.Dim, "time line"))
	for _, s := range r.GetTimeline() {
		lines = append(lines, fmt.Sprintf("  %s  +%6.2fs  %s", s.GetAt().AsTime().In(p.now.Location()).Format("15:04:05.00"),
			s.GetAt().AsTime().Sub(i.GetBegan().AsTime()).Seconds(), text.Clean(s.GetText())))
	}
	return lines
}

func layIncidentVMs(p page, vms []*pb.IncidentVM) []string {
	columns, shown := p.columns(
		text.Column{Title: "VM"}, text.Column{Title: "FROM", Drop: 3}, text.Column{Title: "TO", Drop: 1}, text.Column{Title: "AWAY", Right: true, Drop: 1},
		text.Column{Title: "END", Drop: 2}, text.Column{Title: "WHY", Min: 30, Drop: 4})
	t := text.Table{Columns: columns}
	for _, v := range vms {
		end, away := text.Cell{Text: word(v.GetRecovery())}, "-"
		if v.GetRecovery() == pb.Recovery_RECOVERY_UNSPECIFIED {
			end = text.Cell{Text: "pending", Tone: text.Bad}
		}
		if v.GetDowntime() != nil {
			away = tenths(v.GetDowntime().AsDuration())
		}
		why := v.GetWhy()
		if len(v.GetWaited()) > 0 {
			why = strings.TrimPrefix(why+"; waited: "+strings.Join(v.GetWaited(), "; "), "; ")
		}
		t.Rows = append(t.Rows, pick([]text.Cell{say(v.GetVm()), say(dash(v.GetFrom())), say(dash(v.GetTo())), say(away), end, say(why)}, shown))
	}
	return p.table(t)
}

// completeIncidents suggests the names of records.
func (a *app) completeIncidents() completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		names := a.live(cmd.Context(), func(ctx context.Context, s *session) []string {
			resp, err := s.events.ListIncidents(ctx, &pb.ListIncidentsRequest{})
			if err != nil {
				return nil
			}
			var out []string
			for _, i := range resp.GetIncidents() {
				out = append(out, i.GetId()+"\t"+i.GetWhy())
			}
			return out
		})
		return suggest(append(names, "last\tthe latest one"), args, 1)
	}
}
