package rebuild

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Show writes the plan for people: what is restored, what becomes of each VM, what is not restored, and what speaks against
// it.
func Show(w io.Writer, in Input, p Plan, source string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Pool %s is restored from %s,\n", in.State.Pool, source)
	fmt.Fprintf(t, "saved by %s at %s (revision %d).\n\n", in.State.Server, in.State.At.Format(time.RFC3339), in.State.Revision)
	fmt.Fprintf(t, "HA %s, lease time %v, %d servers, %d VMs, %d revoked certificates, %d incidents\n\n", onOff(p.Config.HA), p.Config.LeaseTTL,
		len(p.Servers), len(p.VMs), in.State.Revocations.Len(), in.State.Incidents.Len())
	for _, s := range p.Servers {
		fmt.Fprintf(t, "server\t%s\t%s\t%s\n", s.ID, s.Address, standing(in, s.ID))
	}
	for _, v := range p.VMs {
		reg, _ := in.State.VMs.Get(v.ID)
		fmt.Fprintf(t, "VM\t%s\t%s\t%s\n", v.ID, v.Why, next(v, v.Registration(reg)))
	}
	for _, s := range p.Strangers {
		fmt.Fprintf(t, "not registered\t%s\t\tleft alone; register it again\n", s)
	}
	showNewer(t, in, p)
	fmt.Fprintln(t, "\nNot restored: sessions, the leader, operations, alerts, events, fences, join tokens, and passwords out of definitions:")
	fmt.Fprintln(t, "a VM that had some runs on, and starts without them until it is registered anew. Witnesses join anew.")
	if len(in.Bare) > 0 {
		fmt.Fprintf(t, "Definitions with a place for a password that will be empty: %s.\n", vmWords(in.Bare))
	}
	for _, r := range p.Refusals {
		fmt.Fprintf(t, "\nNot possible: %s.\n", r)
	}
	return t.Flush()
}

// showNewer tells what is lost by restoring something older than what the servers have.
func showNewer(w io.Writer, in Input, p Plan) {
	if in.Newer == nil {
		return
	}
	fmt.Fprintf(w, "\nIt is OLDER than the copy of %s, saved at %s (revision %d): what was set since is lost. Without a file that copy is restored.\n",
		in.Newer.Server, in.Newer.At.Format(time.RFC3339), in.Newer.Revision)
	var removed []pool.VMID
	for _, v := range p.VMs {
		if v.Removed {
			removed = append(removed, v.ID)
		}
	}
	if len(p.Unrestored) > 0 {
		fmt.Fprintf(w, "Registered since, and NOT restored: %s. Register them again.\n", vmWords(p.Unrestored))
	}
	if len(removed) > 0 {
		fmt.Fprintf(w, "Removed since, and registered again: %s. Those that run nowhere are not started.\n", vmWords(removed))
	}
}

func vmWords(ids []pool.VMID) string {
	var all []string
	for _, id := range ids {
		all = append(all, string(id))
	}
	return strings.Join(all, ", ")
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func standing(in Input, id pool.ServerID) string {
	if in.Present[id] != nil {
		return "answers"
	}
	for _, off := range in.Off {
		if off == id {
			return "off, as you say: what ran there is started elsewhere"
		}
	}
	return "DOES NOT ANSWER: counts as lost and not fenced"
}

func next(v VM, reg pool.VM) string {
	switch {
	case v.Fate == Adopted:
		return "goes on"
	case v.Fate == Waits:
		return "waits until that server is back or fenced"
	case reg.Desired != pool.DesiredRunning && v.Fate == Free:
		return "stays stopped"
	case v.Fate == Ended:
		return "is ended there, then started if it is wanted"
	}
	return "is started"
}
