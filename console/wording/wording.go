package wording

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// spelled keeps what Enum found out: the console asks on every frame.
var spelled sync.Map

type enumKey struct {
	name protoreflect.FullName
	n    protoreflect.EnumNumber
}

// Enum is an enum of the API as people read it: VM_STATUS_RUNNING is "running". A value that this program does not
// know, from a newer agent, shows its number; none at all is "-".
func Enum(e protoreflect.Enum) string {
	key := enumKey{e.Descriptor().FullName(), e.Number()}
	if w, ok := spelled.Load(key); ok {
		if s, ok := w.(string); ok {
			return s
		}
	}
	s := spell(e)
	spelled.Store(key, s)
	return s
}

func spell(e protoreflect.Enum) string {
	values := e.Descriptor().Values()
	prefix, ok := strings.CutSuffix(string(values.Get(0).Name()), "UNSPECIFIED")
	if !ok || e.Number() == 0 {
		return "-"
	}
	v := values.ByNumber(e.Number())
	if v == nil {
		return fmt.Sprintf("state %d", e.Number())
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(v.Name()), prefix), "_", " "))
}

// Size is a number of bytes, short: 8G, 512M, 1.5G.
func Size(bytes int64) string {
	sign := ""
	if bytes < 0 {
		sign, bytes = "-", -bytes
	}
	for _, u := range []struct {
		name string
		size int64
	}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}} {
		if bytes >= u.size {
			return sign + strings.TrimSuffix(strconv.FormatFloat(float64(bytes)/float64(u.size), 'f', 1, 64), ".0") + u.name
		}
	}
	return sign + strconv.FormatInt(bytes, 10)
}

// Span is a duration in its largest unit: 8s, 2m, 5h, 3d. One that is negative, by another machine's clock, is 0s.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 100*time.Second:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < 100*time.Minute:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// Age is how long ago something was; empty for an unknown time.
func Age(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return Span(now.Sub(t.AsTime()))
}

// ClockTime is the time of day, or the day and the time without seconds if that was not today; empty for an unknown
// time. The zone is now's.
func ClockTime(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	at := t.AsTime().In(now.Location())
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format(time.TimeOnly)
	}
	return at.Format("Jan 02 15:04")
}

// OnOff is "on" or "off".
func OnOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// YesNo is "yes" or "no".
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Dash stands for what is empty, where something must always be said.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Plural is "1 VM" or "2 VMs".
func Plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// ByWhom is who set something, when and why, as a tail for a sentence: " by kim, 2h ago: SAN work". Empty if nobody did.
func ByWhom(now time.Time, by string, m *pb.Mark) string {
	if by == "" {
		return ""
	}
	s := " by " + by
	if a := Age(now, m.GetAt()); a != "" {
		s += ", " + a + " ago"
	}
	if m.GetWhy() != "" {
		s += ": " + m.GetWhy()
	}
	return s
}

// HA says whether a VM is protected and, if not, which switch is off.
func HA(v *pb.VMView, c *pb.PoolConfig) string {
	switch {
	case !v.GetVm().GetHa():
		return "off"
	case v.GetProtected():
		return "on"
	case c.GetFrozen():
		return "frozen"
	case c != nil && !c.GetHa():
		return "pool off"
	}
	return "not now"
}

// ServerIs reports whether a server is in that state, among others.
func ServerIs(s *pb.ServerView, state pb.ServerState) bool {
	return slices.Contains(s.GetStates(), state)
}

// VMServer is where a VM is: its owner, or where it was last if that server is lost; empty if it is nowhere.
func VMServer(v *pb.VMView) string {
	if s := v.GetClaim().GetServer(); s != "" {
		return s
	}
	if v.GetStatus() == pb.VMStatus_VM_STATUS_LOST {
		return v.GetClaim().GetLastServer()
	}
	return ""
}

// Subject is what an operation is about: a VM or a server.
func Subject(o *pb.Operation) string {
	if o.GetVm() != "" {
		return o.GetVm()
	}
	return o.GetServer()
}
