package ui

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// manualFrame is one frame of docs/console.md.
type manualFrame struct {
	name  string
	lines []string
}

// manualFrames reads the frames of the manual.
func manualFrames(t *testing.T) []manualFrame {
	t.Helper()
	data, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []manualFrame
	for _, m := range regexp.MustCompile("(?s)<!-- frame (\\S+) -->\n```text\n(.*?)\n```").FindAllStringSubmatch(string(data), -1) {
		out = append(out, manualFrame{m[1], strings.Split(m[2], "\n")})
	}
	if len(out) < 20 {
		t.Fatalf("%d frames in the manual, want the newcomer's path in two sizes", len(out))
	}
	return out
}

// eveningPool is the pool of the manual's stories, as far as it decides what is drawn around the rows.
func eveningPool() *pb.Snapshot {
	s := &pb.Snapshot{Pool: &pb.PoolView{Config: &pb.PoolConfig{Name: "pool", Ha: true}, Leader: "srv-1"}}
	for _, id := range []string{"srv-1", "srv-2", "srv-3", "srv-4"} {
		s.Servers = append(s.Servers, &pb.ServerView{Server: &pb.Server{Id: id}, States: []pb.ServerState{pb.ServerState_SERVER_STATE_UP}, Member: &pb.Member{Server: id, MemoryBytes: 64 << 30, Cpus: 16}})
	}
	for _, id := range []string{"build", "db-copy", "db-main", "gpu-box", "lab-box", "mail", "web-01", "web-02", "web-03", "wiki"} {
		s.Vms = append(s.Vms, &pb.VMView{Vm: &pb.VM{Id: id}, Status: isRunning, Claim: &pb.Claim{Server: "srv-1"}})
	}
	return s
}

var numbers = regexp.MustCompile(`\d+`)

// likeness is a line without what is another in every run: numbers, and how many blanks they leave.
func likeness(line string) string {
	return strings.Join(strings.Fields(numbers.ReplaceAllString(line, "0")), " ")
}

// TestTheManualsFramesAreWhatTheProgramPaints compares what the program draws around the rows with the frames of the
// manual: the tabs, the columns, the title and the keys of a dialog, the keys below. What stands in the rows, each run
// of `make screenshots` finds anew.
func TestTheManualsFramesAreWhatTheProgramPaints(t *testing.T) {
	present := regexp.MustCompile(`\[(\d) `)
	for _, f := range manualFrames(t) {
		t.Run(f.name, func(t *testing.T) {
			ascii := strings.HasPrefix(f.name, "nocolor-")
			w, h := 100, len(f.lines)
			switch {
			case ascii:
				w = 80
			case h == 40:
				w = 120
			}
			b := newBench(t, eveningPool(), w, h)
			b.m.pool.Name, b.m.pool.Label = "pool", ""
			b.m.me.Name = "local"
			b.m.setLook(Look{ASCII: ascii})
			tabs := f.lines[1]
			m := present.FindStringSubmatch(tabs)
			if m == nil {
				t.Fatalf("no tabs in %q", tabs)
			}
			b.press(m[1])
			drawn := strings.Split(b.m.Text(), "\n")
			if likeness(drawn[1]) != likeness(tabs) {
				t.Errorf("the tabs are %q, in the manual %q; make screenshots", drawn[1], tabs)
			}
			if title := dialogTitle(f.lines); title != "" {
				checkDialog(t, b, title, f.lines)
				return
			}
			if got, want := likeness(drawn[len(drawn)-1]), likeness(f.lines[len(f.lines)-1]); got != want {
				t.Errorf("the keys are %q, in the manual %q; make screenshots", got, want)
			}
			columns := likeness(drawn[2])
			if !slices.ContainsFunc(f.lines, func(l string) bool { return strings.HasPrefix(likeness(l), columns) }) {
				t.Errorf("the manual does not show the columns %q; make screenshots", columns)
			}
		})
	}
}

// dialogTitle is the title of the dialog in a frame; empty: there is none.
func dialogTitle(lines []string) string {
	for _, l := range lines {
		for _, corner := range []string{"┌─ ", "+- "} {
			if _, rest, ok := strings.Cut(l, corner); ok {
				title, _, _ := strings.Cut(rest, " ─")
				title, _, _ = strings.Cut(title, " -")
				return title
			}
		}
	}
	return ""
}

// checkDialog compares the keys that a dialog names, and for tables their columns.
func checkDialog(t *testing.T, b *bench, title string, lines []string) {
	t.Helper()
	word, _, _ := strings.Cut(title, " ")
	var d dialog
	columns := ""
	switch word {
	case "Migrate":
		b.line("migrate wiki")
		columns = "TARGET FREE MEM AFTER LOAD N+0 AFTER VERDICT"
	case "Maintenance":
		b.replies["PlanMaintenance"] = func(proto.Message) (proto.Message, error) {
			p := cannedPlan()
			p.Moves = p.GetMoves()[:2] // the evening's VMs can all leave
			return p, nil
		}
		b.line("maintenance enter srv-1")
		columns = "# VM MEM HOW TO NOTE"
		if strings.HasSuffix(title, "under way") {
			b.m.open(newLeavingPage(b.m, "Maintenance of srv-1 in pool", &evacuation{server: "srv-1"}))
			columns = "# VM TO STATE"
		}
	case "End":
		b.m.view.Servers[0].Server.Maintenance = true
		b.line("maintenance exit srv-1")
		columns = "VM MEM FROM COMES WHY"
	case "WHY:":
		b.press("3", "e")
	case "ACTIONS":
		b.press("3", "A")
	case "INCIDENT":
		b.line("incident show last")
		if columns = "VM PRIO FROM TO AWAY END WHY"; b.m.w < 100 {
			columns = "VM TO AWAY END WHY"
		}
	default:
		t.Fatalf("no dialog of this program is called %q", title)
	}
	if d = b.m.top(); d == nil {
		t.Fatalf("%s does not open:\n%s", title, b.screen())
	}
	if !strings.HasPrefix(strings.ToUpper(d.heading(b.m)), strings.ToUpper(word)) {
		t.Errorf("the dialog is called %q, in the manual %q", d.heading(b.m), title)
	}
	drawn := strings.Split(b.m.Text(), "\n")
	if got, want := likeness(drawn[len(drawn)-1]), likeness(lines[len(lines)-1]); got != want {
		t.Errorf("the keys of %s are %q, in the manual %q; make screenshots", title, got, want)
	}
	for what, text := range map[string]string{"the program": b.m.Text(), "the manual": strings.Join(lines, "\n")} {
		if columns != "" && !strings.Contains(likeness(strings.ReplaceAll(strings.ReplaceAll(text, "│", " "), "|", " ")), columns) {
			t.Errorf("%s does not show the columns %q of %s; make screenshots", what, columns, title)
		}
	}
}
