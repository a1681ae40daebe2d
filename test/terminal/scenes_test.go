package terminal

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// colours counts the cells that are drawn in another colour than the terminal's own.
func (t *Terminal) colours() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, h := t.vt.Size()
	n := 0
	for y := range h {
		for x := range w {
			if c := t.vt.Cell(x, y); c.FG != vt10x.DefaultFG || c.BG != vt10x.DefaultBG {
				n++
			}
		}
	}
	return n
}

// together waits until the screen shows all of these texts, however their lines are broken.
func (b *bed) together(want ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	err := b.term.WaitFor(ctx, fmt.Sprintf("%q", want), func(s string) bool {
		s = strings.Join(strings.Fields(s), " ")
		for _, w := range want {
			if !strings.Contains(s, w) {
				return false
			}
		}
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestLiveScenesAreReadOnTheRealTerminalAtEverySize shows one pool's bad evening on terminals of every size at once, the
// smallest without colours: a server that waits for fencing, a failover, an evacuation, no leader, and no agent at all.
func TestLiveScenesAreReadOnTheRealTerminalAtEverySize(t *testing.T) {
	t.Parallel()
	pool, agents := fake(t, 1)
	var beds []*bed
	sizes := [][2]int{{80, 24}, {120, 40}, {160, 45}, {200, 60}}
	for _, size := range sizes {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		t.Cleanup(cancel)
		env := []string(nil)
		if size[0] == 80 {
			env = []string{"NO_COLOR=1"}
		}
		term, err := Start(ctx, size[0], size[1], env, binary(t), "--agents", agents)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(term.Close)
		beds = append(beds, &bed{t, term, ctx})
	}
	everywhere := func(want ...string) {
		t.Helper()
		for i, b := range beds {
			b.together(want...)
			if coloured := b.term.colours() > 0; coloured == (i == 0) {
				t.Errorf("terminal %d has colours: %t\n%s", i, coloured, b.term.Screen())
			}
			for line := range strings.SplitSeq(b.term.Screen(), "\n") {
				if len([]rune(line)) >= sizes[i][0] {
					t.Errorf("the last column is used: %q", line)
				}
			}
		}
	}
	everywhere("HA ON", "WAITING FOR FENCING: hv-06 is lost", "(Enter on it: what to do)", "FAILOVER hv-06", "9/14", "PROBLEMS 6")

	s := proto.CloneOf(fakepool.Troubled().GetServers()[1])
	s.States = []pb.ServerState{pb.ServerState_SERVER_STATE_UP, pb.ServerState_SERVER_STATE_EVACUATING}
	pool.Change(&pb.Delta{Servers: []*pb.ServerView{s}, Operations: []*pb.Operation{{
		Id: "op-9", Kind: pb.OperationKind_OPERATION_KIND_EVACUATE, Server: "hv-02", Phase: "moving VMs", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING,
		Requested: s.GetServer().GetInboundLockMark(), Progress: &pb.Progress{ItemsDone: 4, ItemsTotal: 9},
	}}})
	everywhere("evacuating 4/9")

	p := proto.CloneOf(fakepool.Troubled().GetPool())
	p.Leader = ""
	pool.Change(&pb.Delta{Pool: p})
	everywhere("NO LEADER", "electing, VMs keep running")

	p = proto.CloneOf(p)
	p.Leader = "hv-01"
	pool.Change(&pb.Delta{Pool: p})
	everywhere("* live", "hv-01")

	if err := pool.Kill(0); err != nil {
		t.Fatal(err)
	}
	everywhere("STALE since", "reconnecting", "up?", "N+1 unknown")
	for _, b := range beds {
		b.press("q")
		b.ends(0)
	}
}
