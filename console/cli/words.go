package cli

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	"github.com/holdfast-ha/holdfast/console/wording"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// What the console says in the same words.
var (
	word, size, span, age, clockTime     = wording.Enum, wording.Size, wording.Span, wording.Age, wording.ClockTime
	onOff, yesNo, dash, plural, haWord   = wording.OnOff, wording.YesNo, wording.Dash, wording.Plural, wording.HA
	serverIs, vmServer, operationSubject = wording.ServerIs, wording.VMServer, wording.Subject
)

// byWhom is who set something, when and why, as a tail for a sentence.
func byWhom(now time.Time, m *pb.Mark) string { return wording.ByWhom(now, m.GetBy(), m) }

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

// tenths is a short duration with one decimal: 2.3s.
func tenths(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
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

func serverTone(s *pb.ServerView) text.Tone {
	switch {
	case serverIs(s, pb.ServerState_SERVER_STATE_LOST), serverIs(s, pb.ServerState_SERVER_STATE_BLOCKED):
		return text.Bad
	case len(s.GetStates()) == 1 && serverIs(s, pb.ServerState_SERVER_STATE_UP):
		return text.Good
	}
	return text.Busy
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
