package ui

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// enumWords keeps what word found out, as it is asked for on every frame.
var enumWords sync.Map

type enumKey struct {
	name protoreflect.FullName
	n    protoreflect.EnumNumber
}

// word is an enum of the API as people read it: VM_STATUS_RUNNING is "running".
func word(e protoreflect.Enum) string {
	key := enumKey{e.Descriptor().FullName(), e.Number()}
	if w, ok := enumWords.Load(key); ok {
		if s, ok := w.(string); ok {
			return s
		}
	}
	s := spell(e)
	enumWords.Store(key, s)
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
		return fmt.Sprintf("state %d", e.Number()) // from an agent newer than this program
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(v.Name()), prefix), "_", " "))
}

// size is a number of bytes, short: 8G, 512M, 1.5G.
func size(bytes int64) string {
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

// span is a duration in its largest unit.
func span(d time.Duration) string {
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

// stopwatch is a running time: 0:08, 12:31, 1:02:10.
func stopwatch(d time.Duration) string {
	s := int(max(d, 0).Seconds())
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// seconds is a short time with one decimal.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(max(d, 0).Seconds(), 'f', 1, 64) + " s"
}

// age is how long ago something was; empty for an unknown time.
func age(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return span(now.Sub(t.AsTime()))
}

// clockTime is the time of day, or the day and the time if that was not today.
func clockTime(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	at := t.AsTime().In(now.Location())
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format(time.TimeOnly)
	}
	return at.Format("Jan 02 15:04")
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

// dash stands for what is empty.
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
	return strconv.Itoa(n) + " " + one + "s"
}

// person takes the role off an identity: "operator kim" is kim.
func person(by string) string { return strings.TrimPrefix(by, "operator ") }

// byWhom is who set something, when and why, as a tail for a sentence.
func byWhom(now time.Time, m *pb.Mark) string {
	if m.GetBy() == "" {
		return ""
	}
	s := " by " + person(m.GetBy())
	if a := age(now, m.GetAt()); a != "" {
		s += ", " + a + " ago"
	}
	if m.GetWhy() != "" {
		s += ": " + m.GetWhy()
	}
	return s
}

func vmTone(s pb.VMStatus) tone {
	switch s {
	case pb.VMStatus_VM_STATUS_RUNNING:
		return good
	case pb.VMStatus_VM_STATUS_STOPPED:
		return plain
	case pb.VMStatus_VM_STATUS_STARTING, pb.VMStatus_VM_STATUS_STOPPING, pb.VMStatus_VM_STATUS_MIGRATING:
		return busy
	}
	return bad
}

// haWord says whether a VM is protected and, if not, which switch is off.
func haWord(v *pb.VMView, c *pb.PoolConfig) (string, tone) {
	switch {
	case !v.GetVm().GetHa():
		return "OFF", bad
	case v.GetProtected():
		return "on", plain
	case c.GetFrozen():
		return "frozen", bad
	case c != nil && !c.GetHa():
		return "pool off", bad
	}
	return "not now", bad
}

func serverIs(s *pb.ServerView, state pb.ServerState) bool {
	for _, st := range s.GetStates() {
		if st == state {
			return true
		}
	}
	return false
}

// serverWords are a server's states, such as "up, locked".
func serverWords(s *pb.ServerView) string {
	switch len(s.GetStates()) {
	case 0:
		return "-"
	case 1:
		if s.GetServer().GetRemoving() {
			break
		}
		return word(s.GetStates()[0])
	}
	var out []string
	for _, st := range s.GetStates() {
		out = append(out, word(st))
	}
	if s.GetServer().GetRemoving() {
		out = append(out, "removing")
	}
	return strings.Join(out, ", ")
}

func serverTone(s *pb.ServerView) tone {
	switch {
	case serverIs(s, pb.ServerState_SERVER_STATE_LOST), serverIs(s, pb.ServerState_SERVER_STATE_BLOCKED):
		return bad
	case len(s.GetStates()) == 1 && serverIs(s, pb.ServerState_SERVER_STATE_UP):
		return good
	}
	return busy
}

// vmServer is where a VM is: its owner, or where it was last if that server is lost.
func vmServer(v *pb.VMView) string {
	if s := v.GetClaim().GetServer(); s != "" {
		return s
	}
	if v.GetStatus() == pb.VMStatus_VM_STATUS_LOST {
		return v.GetClaim().GetLastServer()
	}
	return ""
}

// subject is what an operation is about.
func subject(o *pb.Operation) string {
	if o.GetVm() != "" {
		return o.GetVm()
	}
	return o.GetServer()
}

func outcomeTone(o pb.OperationOutcome) tone {
	switch o {
	case pb.OperationOutcome_OPERATION_OUTCOME_DONE:
		return good
	case pb.OperationOutcome_OPERATION_OUTCOME_RUNNING:
		return busy
	}
	return bad
}

// percent of an operation's progress; ok is false if it does not tell.
func percent(p *pb.Progress) (done, total int64, ok bool) {
	switch {
	case p.GetItemsTotal() > 0:
		return int64(p.GetItemsDone()), int64(p.GetItemsTotal()), true
	case p.GetBytesTotal() > 0:
		return p.GetBytesDone(), p.GetBytesTotal(), true
	}
	return 0, 0, false
}

// progressText is an operation's progress in words.
func progressText(p *pb.Progress) string {
	var parts []string
	if p.GetItemsTotal() > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d", p.GetItemsDone(), p.GetItemsTotal()))
	}
	if p.GetBytesTotal() > 0 {
		parts = append(parts, fmt.Sprintf("%d%% of %s", p.GetBytesDone()*100/p.GetBytesTotal(), size(p.GetBytesTotal())))
	}
	if p.GetBytesPerSecond() > 0 {
		parts = append(parts, size(p.GetBytesPerSecond())+"/s")
	}
	if e := p.GetEstimatedTimeToFinish().AsDuration(); e > 0 {
		parts = append(parts, span(e)+" left")
	}
	return strings.Join(parts, ", ")
}

// freeMemory is what a server has left for VMs; negative when it holds more than it should.
func freeMemory(s *pb.ServerView) int64 {
	return s.GetMember().GetMemoryBytes() - s.GetServer().GetReservedMemoryBytes() - s.GetMemoryUsedBytes()
}

// wrap breaks a sentence into lines of at most w cells, between words where it can.
func wrap(s string, w int) []string {
	if w < 2 || cells(s) <= w {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		for cells(word) > w {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			n := 0
			for i, c := range word {
				_, k := measure.shape(c)
				if n += k; n > w && i > 0 {
					lines, word = append(lines, word[:i]), word[i:]
					break
				}
			}
		}
		switch {
		case line == "":
			line = word
		case cells(line)+1+cells(word) <= w:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}
