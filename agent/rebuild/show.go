package rebuild

import (
	"fmt"
	"io"
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
		fmt.Fprintf(t, "VM\t%s\t%s\t%s\n", v.ID, v.Why, next(v, reg))
	}
	for _, s := range p.Strangers {
		fmt.Fprintf(t, "not registered\t%s\t\tleft alone; register it again\n", s)
	}
	fmt.Fprintln(t, "\nNot restored: sessions, the leader, operations, alerts, events, fences, join tokens, and passwords out of definitions:")
	fmt.Fprintln(t, "a VM that had some runs on, and starts without them until it is registered anew. Witnesses join anew.")
	for _, r := range p.Refusals {
		fmt.Fprintf(t, "\nNot possible: %s.\n", r)
	}
	return t.Flush()
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
