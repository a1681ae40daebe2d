package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Outcomes of a level.
const (
	outcomeOK      = "ok"
	outcomeSlow    = "slow"
	outcomeFailed  = "failed"
	outcomeSkipped = "skipped"
)

// drillReport is what a drill found, as it is written for programs. Times are seconds.
type drillReport struct {
	Pool     string        `json:"pool"`
	Began    time.Time     `json:"began"`
	LeaseTTL float64       `json:"leaseTtlSeconds"`
	Servers  []string      `json:"servers"`
	Canary   string        `json:"canary,omitempty"`
	Disk     string        `json:"disk,omitempty"`
	Notes    []string      `json:"notes,omitempty"`
	Levels   []levelResult `json:"levels"`
	// Failure is what ended the drill besides its levels.
	Failure string `json:"failure,omitempty"`
	Verdict string `json:"verdict"`
}

// levelResult is what one level found.
type levelResult struct {
	Level string    `json:"level"`
	Began time.Time `json:"began,omitzero"`
	// Server was hit; To runs the canary afterwards.
	Server   string    `json:"server,omitempty"`
	To       string    `json:"to,omitempty"`
	Outcome  string    `json:"outcome"`
	Why      string    `json:"why,omitempty"`
	Measures []measure `json:"measures,omitempty"`
	// Incident is the pool's own record, Proof what its leader went by.
	Incident string `json:"incident,omitempty"`
	Proof    string `json:"proof,omitempty"`
	Evidence string `json:"evidence,omitempty"`

	hit    time.Time
	budget pool.DrillBudget
}

// measure is when something was seen after the hit, and when it must be.
type measure struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
	Budget  float64 `json:"budgetSeconds"`
}

func (m measure) late() bool { return m.Seconds > m.Budget }

func (m measure) String() string {
	return fmt.Sprintf("%s after %.1f s (of %.1f s)", m.What, m.Seconds, m.Budget)
}

// took notes a measure.
func (r *levelResult) took(what string, at time.Time, budget time.Duration) {
	r.Measures = append(r.Measures, measure{what, at.Sub(r.hit).Seconds(), budget.Seconds()})
}

// judge says how the level went.
func (r *levelResult) judge(err error) {
	r.Outcome = outcomeOK
	slices.SortStableFunc(r.Measures, func(a, b measure) int { return cmp.Compare(a.Seconds, b.Seconds) })
	for _, m := range r.Measures {
		if m.late() {
			r.Outcome, r.Why = outcomeSlow, fmt.Sprintf("%s: %.1f s are more than the pool's budget of %.1f s", m.What, m.Seconds, m.Budget)
		}
	}
	if err != nil {
		reason, _ := explain(err)
		r.Outcome, r.Why = outcomeFailed, reason
	}
}

// line is a level in one line.
func (r levelResult) line() string {
	parts := []string{}
	for _, m := range r.Measures {
		parts = append(parts, m.String())
	}
	return fmt.Sprintf("%s on %s: %s%s%s", r.Level, dash(r.Server), r.Outcome, colon(strings.Join(parts, ", ")), colon(r.Why))
}

func (r *drillReport) begin(st *state, _ drillPlan, now time.Time) {
	cfg := st.pool.GetConfig()
	r.Pool, r.Began, r.LeaseTTL = cfg.GetName(), now, cfg.GetLeaseTtl().AsDuration().Seconds()
	for _, v := range sorted(st.servers) {
		r.Servers = append(r.Servers, v.GetServer().GetId())
	}
}

// judge says how the drill went, by its worst level.
func (r *drillReport) judge() {
	r.Verdict = outcomeOK
	for _, l := range r.Levels {
		if l.Outcome == outcomeFailed || l.Outcome == outcomeSlow && r.Verdict == outcomeOK {
			r.Verdict = l.Outcome
		}
	}
	if r.Failure != "" {
		r.Verdict = outcomeFailed
	}
}

// write shows the report and writes the file that was asked for.
func (r *drillReport) write(a *app, o drillOptions) error {
	r.judge()
	switch {
	case o.out.forScripts():
		var b bytes.Buffer
		if err := r.asJSON(&b); err != nil {
			return err
		}
		if o.out == formatYAML {
			if err := writeYAML(a.env.Out, b.Bytes()); err != nil {
				return err
			}
		} else if _, err := fmt.Fprint(a.env.Out, escape(b.String(), formatJSON)); err != nil {
			return err
		}
	case len(r.Levels) > 0:
		for _, l := range r.table(a.page(o.out == formatWide)) {
			fmt.Fprintln(a.env.Out, l)
		}
	}
	if o.report == "" {
		return nil
	}
	return r.writeFile(o.report)
}

// table is the report for people.
func (r *drillReport) table(p page) []string {
	columns, shown := p.columns(text.Column{Title: "LEVEL"}, text.Column{Title: "SERVER", Drop: 3}, text.Column{Title: "NOW ON", Drop: 4}, text.Column{Title: "WHAT"},
		text.Column{Title: "TOOK", Right: true}, text.Column{Title: "BUDGET", Right: true}, text.Column{Title: "VERDICT"}, text.Column{Title: "WHY", Drop: 2, Min: 20})
	t := text.Table{Columns: columns}
	for _, l := range r.Levels {
		verdict := text.Cell{Text: l.Outcome}
		if l.Outcome != outcomeOK && l.Outcome != outcomeSkipped {
			verdict.Tone = text.Bad
		}
		row := func(what, took, budget string, last bool) {
			end, why := text.Cell{}, ""
			if last {
				end, why = verdict, l.Why
			}
			t.Rows = append(t.Rows, pick([]text.Cell{say(l.Level), say(dash(l.Server)), say(dash(l.To)), say(what), say(took), say(budget), end, say(why)}, shown))
		}
		for i, m := range l.Measures {
			row(m.What, fmt.Sprintf("%.2fs", m.Seconds), fmt.Sprintf("%.2fs", m.Budget), i == len(l.Measures)-1)
		}
		if len(l.Measures) == 0 {
			row("-", "-", "-", true)
		}
	}
	lines := p.table(t)
	for _, l := range r.Levels {
		if l.Incident != "" {
			lines = append(lines, p.paint(text.Dim, fmt.Sprintf("%s: holdfast incident show %s%s", l.Level, l.Incident, colon(strings.TrimSuffix(l.Evidence, ".")))))
		}
	}
	return append(lines, "verdict: "+r.Verdict)
}

// asJSON writes the report for programs.
func (r *drillReport) asJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	return nil
}

// asMarkdown writes the report for a file or a ticket.
func (r *drillReport) asMarkdown(b *strings.Builder) {
	fmt.Fprintf(b, "# Drill of pool %s, %s: %s\n\n", r.Pool, r.Began.Format(time.DateTime), r.Verdict)
	fmt.Fprintf(b, "Servers: %s. Lease: %.0f s. Canary: %s on %s.\n", strings.Join(r.Servers, ", "), r.LeaseTTL, dash(r.Canary), dash(r.Disk))
	for _, n := range append(r.Notes, r.Failure) {
		if n != "" {
			fmt.Fprintf(b, "\n* %s\n", text.Clean(n))
		}
	}
	b.WriteString("\n| level | server | now on | what | took | budget |\n|---|---|---|---|---|---|\n")
	for _, l := range r.Levels {
		for _, m := range l.Measures {
			late := ""
			if m.late() {
				late = " **late**"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %.2f s%s | %.2f s |\n", l.Level, dash(l.Server), dash(l.To), m.What, m.Seconds, late, m.Budget)
		}
	}
	for _, l := range r.Levels {
		fmt.Fprintf(b, "\n**%s: %s**%s", l.Level, l.Outcome, colon(text.Clean(l.Why)))
		if l.Incident != "" {
			fmt.Fprintf(b, " (incident %s%s)", l.Incident, colon(text.Clean(l.Evidence)))
		}
		b.WriteString("\n")
	}
}
