package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// word is an API enum as people read it: VM_STATUS_RUNNING is "running". A value that this program does not know,
// from a newer agent, shows its number.
func word(e protoreflect.Enum) string {
	values := e.Descriptor().Values()
	zero, ok := strings.CutSuffix(string(values.Get(0).Name()), "UNSPECIFIED")
	if !ok || e.Number() == 0 {
		return "-"
	}
	v := values.ByNumber(e.Number())
	if v == nil {
		return fmt.Sprintf("state %d", e.Number())
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(v.Name()), zero), "_", " "))
}

// unreadable is the word for a VM whose records in etcd cannot be read, so that nobody knows how it stands.
const unreadable = "unreadable"

// vmWord is a VM's status as people read it.
func vmWord(s pb.VMStatus) string {
	if s == pb.VMStatus_VM_STATUS_UNSPECIFIED {
		return unreadable
	}
	return word(s)
}

// words are all the values of an enum type.
func words(e protoreflect.Enum) []string {
	var out []string
	values := e.Descriptor().Values()
	for i := 1; i < values.Len(); i++ {
		out = append(out, word(e.Type().New(values.Get(i).Number())))
	}
	return out
}

// size is a number of bytes, short: 8G, 512M, 1.5G.
func size(bytes int64) string {
	if bytes <= 0 {
		return "0"
	}
	units := []struct {
		name string
		size int64
	}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}}
	for _, u := range units {
		if bytes >= u.size {
			s := strconv.FormatFloat(float64(bytes)/float64(u.size), 'f', 1, 64)
			return strings.TrimSuffix(s, ".0") + u.name
		}
	}
	return "0"
}

// age is how long ago something was: 8s, 2m, 5h, 3d. Empty for an unknown time; a time in the future, by another
// machine's clock, is 0s.
func age(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return span(now.Sub(t.AsTime()))
}

// span is a duration in its largest unit.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// tenths is a short duration with one decimal: 2.3s.
func tenths(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
}

// clockTime is the time of day, or day and time without seconds if that was not today.
func clockTime(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	at := t.AsTime().In(now.Location())
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format("Jan 02 15:04")
}

// clockTime is the time in full in wide output.
func (p page) clockTime(t *timestamppb.Timestamp) string {
	if p.wide && t != nil {
		return t.AsTime().In(p.now.Location()).Format(time.DateTime)
	}
	return clockTime(p.now, t)
}

// durationText is a setting's duration without its empty parts: 10m rather than 10m0s.
func durationText(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	s := d.AsDuration().String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// dash stands for what is empty, in columns that always say something.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plural is "1 VM" or "2 VMs".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// byWhom is who set something, when and why, as a tail for a sentence: " by kim, 2h ago: SAN work".
func byWhom(now time.Time, m *pb.Mark) string {
	if m.GetBy() == "" {
		return ""
	}
	s := " by " + m.GetBy()
	if a := age(now, m.GetAt()); a != "" {
		s += ", " + a + " ago"
	}
	if m.GetWhy() != "" {
		s += ": " + m.GetWhy()
	}
	return s
}

// vmTone is the colour of a VM's state.
func vmTone(s pb.VMStatus) text.Tone {
	switch s {
	case pb.VMStatus_VM_STATUS_RUNNING:
		return text.Good
	case pb.VMStatus_VM_STATUS_STOPPED:
		return text.Plain
	case pb.VMStatus_VM_STATUS_STARTING, pb.VMStatus_VM_STATUS_STOPPING, pb.VMStatus_VM_STATUS_MIGRATING:
		return text.Busy
	}
	return text.Bad
}

// haWord says whether a VM is protected and, if not, which switch is off.
func haWord(v *pb.VMView, c *pb.PoolConfig) string {
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

// serverWords are a server's states and whether it leads, such as "up, locked, leader".
func serverWords(s *pb.ServerView) string {
	var out []string
	for _, st := range s.GetStates() {
		out = append(out, word(st))
	}
	if s.GetLeader() {
		out = append(out, "leader")
	}
	if s.GetServer().GetRemoving() {
		out = append(out, "removing")
	}
	return dash(strings.Join(out, ", "))
}

func serverIs(s *pb.ServerView, state pb.ServerState) bool {
	for _, st := range s.GetStates() {
		if st == state {
			return true
		}
	}
	return false
}

func serverTone(s *pb.ServerView) text.Tone {
	switch {
	case serverIs(s, pb.ServerState_SERVER_STATE_LOST), serverIs(s, pb.ServerState_SERVER_STATE_BLOCKED):
		return text.Bad
	case len(s.GetStates()) == 1 && serverIs(s, pb.ServerState_SERVER_STATE_UP):
		return text.Good
	}
	return text.Busy
}

// vmServer is where a VM is: its owner, or where it was last.
func vmServer(v *pb.VMView) string {
	if s := v.GetClaim().GetServer(); s != "" {
		return s
	}
	if v.GetStatus() == pb.VMStatus_VM_STATUS_LOST {
		return v.GetClaim().GetLastServer()
	}
	return ""
}

// operationSubject is what an operation is about.
func operationSubject(o *pb.Operation) string {
	if o.GetVm() != "" {
		return o.GetVm()
	}
	return o.GetServer()
}

func outcomeTone(o pb.OperationOutcome) text.Tone {
	switch o {
	case pb.OperationOutcome_OPERATION_OUTCOME_DONE:
		return text.Good
	case pb.OperationOutcome_OPERATION_OUTCOME_RUNNING:
		return text.Busy
	}
	return text.Bad
}
