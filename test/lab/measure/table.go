package measure

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// spread is the smallest, the middle and the largest of some figures.
func spread[F time.Duration | float64](all []F) (least, median, most F) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	median = sorted[n/2]
	if n%2 == 0 {
		median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[0], median, sorted[n-1]
}

// table prints the figures by what the dead server was.
func (f Failover) table(all []run) {
	w := tabwriter.NewWriter(f.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\nT\tDEAD SERVER WAS\tRUNS\tMIN\tMEDIAN\tMAX\tTARGET (MEDIAN)\tMET\n")
	type kind struct {
		name   string
		target time.Duration
		is     func(run) bool
	}
	kinds := []kind{
		{"not the etcd leader", f.TTL + targetMember, func(r run) bool { return !r.etcdLeads }},
		{"the etcd leader", f.TTL + targetLeader, func(r run) bool { return r.etcdLeads }},
		{"of these: the pool leader, not etcd's", 0, func(r run) bool { return r.leads && !r.etcdLeads }},
	}
	if f.Power {
		kinds = []kind{{"a member with power fencing", targetPower, func(run) bool { return true }}}
	}
	for _, kind := range kinds {
		var took []time.Duration
		for _, r := range all {
			if kind.is(r) {
				took = append(took, r.took)
			}
		}
		least, median, most := spread(took)
		target, met := "-", "-"
		if kind.target > 0 {
			target, met = fmt.Sprintf("<= %.2f s", kind.target.Seconds()), "yes"
			if median > kind.target || len(took) == 0 {
				met = "NO"
			}
		}
		fmt.Fprintf(w, "%v\t%s\t%d\t%.2f s\t%.2f s\t%.2f s\t%s\t%s\n", f.TTL, kind.name, len(took), least.Seconds(), median.Seconds(), most.Seconds(), target, met)
	}
	_ = w.Flush() // f.Out is the terminal
}

// row prints one line; a target is a bound of the median.
func row(w io.Writer, what, by string, all []time.Duration, target time.Duration) {
	least, median, most := spread(all)
	bound, met := "-", "-"
	if target > 0 {
		bound, met = fmt.Sprintf("<= %.2f s", target.Seconds()), verdict(len(all) > 0 && median <= target)
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%.2f s\t%.2f s\t%.2f s\t%s\t%s\n", what, by, len(all), least.Seconds(), median.Seconds(), most.Seconds(), bound, met)
}

// number prints one line of what is no time; a target is what the median must reach.
func number(w io.Writer, what, by, unit string, all []float64, target float64) {
	least, median, most := spread(all)
	bound, met := "-", "-"
	if target > 0 {
		bound, met = fmt.Sprintf(">= %.2f", target), verdict(len(all) > 0 && median >= target)
	}
	text := func(v float64) string {
		if unit == "" {
			return fmt.Sprintf("%.2f", v)
		}
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", what, by, len(all), text(least), text(median), text(most), bound, met)
}

// fine prints one line of what is small, without a target.
func fine(w io.Writer, what, by, unit string, all []float64) {
	least, median, most := spread(all)
	fmt.Fprintf(w, "%s\t%s\t%d\t%.2f %s\t%.2f %s\t%.2f %s\t-\t-\n", what, by, len(all), least, unit, median, unit, most, unit)
}

func verdict(met bool) string {
	if met {
		return "yes"
	}
	return "NO"
}

// each takes one figure of each of several measurements.
func each[M, F any](all []M, of func(M) F) []F {
	var figures []F
	for _, one := range all {
		figures = append(figures, of(one))
	}
	return figures
}

// ratios divides figures that were measured one after the other.
func ratios(over, under []float64) []float64 {
	var all []float64
	for i := range min(len(over), len(under)) {
		all = append(all, over[i]/under[i])
	}
	return all
}
