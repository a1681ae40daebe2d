package ui

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestAFigureThatIsOldIsNotShownAsThePresent(t *testing.T) {
	b := troubled(t)
	b.press("3")
	b.sees("36%")
	b.pass(figuresFor, true)
	b.sees("36%")
	b.pass(time.Second, true) // the agent talks, but no figures come
	b.seesNot("36%")
}

func TestNothingIsMeasuredOnAServerThatIsLost(t *testing.T) {
	b := newBench(t, fakepool.Healthy(), 120, 40)
	b.press("2")
	before := b.screen()
	s := fakepool.Healthy().GetServers()[2]
	s.States, s.Member = []pb.ServerState{pb.ServerState_SERVER_STATE_LOST}, nil
	b.delta(&pb.Delta{Servers: []*pb.ServerView{s}})
	if got, _ := b.m.hostUsage("hv-03", cpuOf); !strings.Contains(got, "?") {
		t.Errorf("%q of a server that was lost just now; before:\n%s", got, before)
	}
}
