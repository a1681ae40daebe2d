package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// topSilent is when an agent that tells nothing, though it does so every two seconds, is left for another.
const topSilent = 10 * time.Second

// topPatience bounds how long `top` waits for servers that have not told their figures.
const topPatience = 5 * time.Second

func (a *app) topCommand() *cobra.Command {
	out, watch, limit := formatTable, false, 20
	cmd := &cobra.Command{
		Use: "top", Short: "How busy servers and VMs are now", GroupID: "see", Args: cobra.NoArgs,
		Long: `How busy servers and VMs are now, the busiest VMs first. It is measured while
somebody asks; agents keep no history. A VM's CPU is in percent of its own CPUs.
With --watch and -o json each measurement is a line; an agent that dies is
replaced by another.`,
		RunE: a.with(func(ctx context.Context, s *session, _ []string) error {
			if limit < 0 {
				return usagef("--limit %d: must be 0 (all) or more", limit)
			}
			t := &top{app: a, session: s, out: out, watch: watch, limit: limit}
			return t.run(ctx)
		}),
	}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on until interrupted")
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many VMs; 0: all")
	return cmd
}

// top is one run of the command.
type top struct {
	app     *app
	session *session
	out     format
	watch   bool
	limit   int

	vms    map[string]*pb.VMView
	heard  map[string]*pb.ServerFigures
	silent []*pb.SilentServer
	drawn  int
	shown  int
}

// run shows figures once, or until ctx ends: then a stream that breaks or goes silent is replaced by one of another
// agent. Only what the present stream has told is shown.
func (t *top) run(ctx context.Context) error {
	pause := firstRetry
	for shown := false; ; {
		began := t.shown
		err := t.stream(ctx)
		var stop *handlerError
		if errors.As(err, &stop) {
			return stop.err
		}
		if shown = shown || t.shown > 0; !t.watch || err == nil || !shown {
			return err
		}
		if ctx.Err() != nil {
			return nil // interrupted
		}
		if t.shown > began {
			pause = firstRetry
		}
		t.drawn = 0 // what follows stands below the remark
		fmt.Fprintf(t.app.env.Err, "holdfast: %s; asking another agent\n", text.Clean(err.Error()))
		if !waitFor(ctx, pause/2+rand.N(pause)) {
			return nil
		}
		pause = min(2*pause, lastRetry)
	}
}

// stream shows what one stream tells: once, or until it ends.
func (t *top) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.heard, t.vms, t.silent = map[string]*pb.ServerFigures{}, map[string]*pb.VMView{}, nil
	all, err := t.session.vms.ListVMs(ctx, &pb.ListVMsRequest{WithoutXml: true})
	if err != nil {
		return err
	}
	for _, v := range all.GetVms() {
		t.vms[v.GetVm().GetId()] = v
	}
	watch, err := t.session.pool.WatchFigures(ctx, &pb.WatchFiguresRequest{})
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	quiet := time.AfterFunc(topSilent, func() { close(gone); cancel() })
	defer quiet.Stop()
	for began := t.app.env.Now(); ; {
		r, err := watch.Recv()
		select {
		case <-gone:
			t.session.client.Avoid()
			return errors.New("the agent has gone silent")
		default:
		}
		if err != nil {
			return err
		}
		quiet.Reset(topSilent)
		t.take(r)
		complete := len(r.GetSilent()) == 0 && t.measured()
		if !complete && !t.watch && t.app.env.Now().Sub(began) < topPatience {
			continue
		}
		t.shown++
		if err := t.show(r); err != nil {
			return &handlerError{err}
		}
		if !t.watch {
			return nil
		}
	}
}

// take keeps the newest figures of each server that is not silent.
func (t *top) take(r *pb.WatchFiguresResponse) {
	for _, s := range r.GetServers() {
		t.heard[s.GetServer()] = s
	}
	t.silent = r.GetSilent()
	for _, s := range t.silent {
		delete(t.heard, s.GetServer())
	}
}

// measured reports whether every server has told its CPUs as well, for which it must measure twice.
func (t *top) measured() bool {
	for _, s := range t.heard {
		if s.GetOver() == nil {
			return false
		}
	}
	return len(t.heard) > 0
}

func (t *top) show(r *pb.WatchFiguresResponse) error {
	env := t.app.env
	switch {
	case t.out.forScripts() && t.watch:
		return writeChange(env.Out, t.out, r)
	case t.out.forScripts():
		all := &pb.WatchFiguresResponse{ServedBy: r.GetServedBy(), Silent: t.silent}
		for _, s := range t.servers() {
			all.Servers = append(all.Servers, t.heard[s])
		}
		return writeMessage(env.Out, t.out, all)
	}
	lines := t.lay(t.app.page(t.out == formatWide))
	before := ""
	if t.watch && env.OutTerminal != nil {
		width, height := env.OutTerminal.Size()
		lines = fitScreen(lines, width, height)
		if t.drawn > 0 {
			before = fmt.Sprintf("\x1b[%dA\r\x1b[J", t.drawn)
		}
		t.drawn = 0
		for _, l := range lines {
			t.drawn += rows(l, width)
		}
	}
	_, err := io.WriteString(env.Out, before+strings.Join(lines, "\n")+"\n")
	return err
}

func (t *top) servers() []string {
	var out []string
	for id := range t.heard {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// busiest are the VMs' figures, those of the server that each belongs to, the busiest first.
func (t *top) busiest() []*pb.VMFigures {
	var all []*pb.VMFigures
	for _, s := range t.servers() {
		for _, f := range t.heard[s].GetVms() {
			if t.vms[f.GetVm()].GetClaim().GetServer() == s || t.vms[f.GetVm()] == nil {
				all = append(all, f)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *pb.VMFigures) int {
		if c := cmp.Compare(b.GetCpusBusy(), a.GetCpusBusy()); c != 0 {
			return c
		}
		return cmp.Compare(a.GetVm(), b.GetVm())
	})
	return all
}

func (t *top) lay(p page) []string {
	st := text.Table{Columns: []text.Column{{Title: "SERVER"}, {Title: "CPU", Right: true}, {Title: "OF", Right: true, Drop: 3}, {Title: "MEM USED", Right: true},
		{Title: "OF", Right: true, Drop: 2}, {Title: "MIGRATION", Right: true, Drop: 1}, {Title: "NOTE", Min: 10}}}
	for _, id := range t.servers() {
		s := t.heard[id]
		st.Rows = append(st.Rows, []text.Cell{say(id), say(percent(s.GetCpusBusy(), float64(s.GetCpus()))), say(fmt.Sprint(s.GetCpus())),
			say(size(s.GetMemoryUsedBytes())), say(size(s.GetMemoryBytes())), say(size(s.GetMigrationBytesPerSecond()) + "/s"), {Text: s.GetWithoutVms(), Tone: text.Bad}})
	}
	for _, s := range t.silent {
		st.Rows = append(st.Rows, []text.Cell{say(s.GetServer()), say("?"), say(""), say("?"), say(""), say("?"), {Text: s.GetReason(), Tone: text.Bad}})
	}
	vt := text.Table{Columns: []text.Column{{Title: "VM"}, {Title: "SERVER"}, {Title: "CPU", Right: true}, {Title: "OF", Right: true, Drop: 2}, {Title: "MEM USED", Right: true},
		{Title: "MIGRATION", Right: true, Drop: 1}}}
	all := t.busiest()
	for i, f := range all {
		if t.limit > 0 && i == t.limit {
			break
		}
		v, moving := t.vms[f.GetVm()], ""
		if f.GetMigrationBytesPerSecond() > 0 {
			moving = size(f.GetMigrationBytesPerSecond()) + "/s"
		}
		vt.Rows = append(vt.Rows, []text.Cell{say(f.GetVm()), say(dash(v.GetClaim().GetServer())), say(percent(f.GetCpusBusy(), float64(v.GetVm().GetCpus()))),
			say(fmt.Sprint(v.GetVm().GetCpus())), say(size(f.GetMemoryBytes())), say(moving)})
	}
	lines := p.table(st)
	if len(vt.Rows) > 0 {
		lines = append(append(lines, ""), p.table(vt)...)
	}
	if n := len(all) - len(vt.Rows); n > 0 {
		lines = append(lines, fmt.Sprintf("... %d more VMs: --limit 0", n))
	}
	return lines
}

// percent is part of whole.
func percent(part, whole float64) string {
	if whole <= 0 {
		return "?"
	}
	return fmt.Sprintf("%.0f%%", 100*part/whole)
}
