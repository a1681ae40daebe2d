package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/console/wording"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// What the command line says in the same words.
var (
	word, size, span, age, clockTime = wording.Enum, wording.Size, wording.Span, wording.Age, wording.ClockTime
	onOff, yesNo, dash, plural       = wording.OnOff, wording.YesNo, wording.Dash, wording.Plural
	serverIs, vmServer, subject      = wording.ServerIs, wording.VMServer, wording.Subject
)

// byWhom is who set something, when and why, as a tail for a sentence.
func byWhom(now time.Time, m *pb.Mark) string { return wording.ByWhom(now, person(m.GetBy()), m) }

// haWord says whether a VM is protected and, if not, which switch is off.
func haWord(v *pb.VMView, c *pb.PoolConfig) (string, tone) {
	switch s := wording.HA(v, c); s {
	case "on":
		return s, plain
	case "off":
		return "OFF", bad
	default:
		return s, bad
	}
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

// person takes the role off an identity: "operator kim" is kim.
func person(by string) string { return strings.TrimPrefix(by, "operator ") }

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
