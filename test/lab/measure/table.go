package measure

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"
)

// spread is the smallest, the middle and the largest of some durations.
func spread(all []time.Duration) (least, median, most time.Duration) {
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
