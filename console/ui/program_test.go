package ui

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/exp/teatest"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/feed"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// fakeSession is a pool that a test writes to.
type fakeSession struct {
	news   chan feed.Update
	calls  chan proto.Message
	closed chan struct{}
}

func newFakeSession() *fakeSession {
	return &fakeSession{news: make(chan feed.Update, 10), calls: make(chan proto.Message, 10), closed: make(chan struct{})}
}

func (s *fakeSession) Next(time.Time) (feed.Update, error) {
	select {
	case u := <-s.news:
		return u, nil
	case <-s.closed:
		return feed.Update{}, errors.New("closed")
	}
}

func (s *fakeSession) Link() feed.Link {
	return feed.Link{Heard: time.Now(), Open: true, Synced: true}
}

func (s *fakeSession) Call(req proto.Message) (proto.Message, error) {
	name := feed.Method(req)
	if f, ok := cannedReplies()[name[strings.LastIndexByte(name, '/')+1:]]; ok && f != nil {
		return f(req)
	}
	s.calls <- req
	return &pb.SetPoolHAResponse{}, nil
}

func (s *fakeSession) Reconnect() {}
func (s *fakeSession) Close()     { close(s.closed) }

func TestTheProgramStartsResizesSendsAndQuits(t *testing.T) {
	s := newFakeSession()
	m := New(Options{
		Ports: Ports{Now: time.Now, RequestID: func() string { return "r1" }, Copy: func(string) {}}, Look: Look{ASCII: true},
		Session: s, Pool: Pool{Name: "prod-a"}, Width: 80, Height: 24, Start: time.Now(),
	})
	tm := teatest.NewTestModel(t, Program{m}, teatest.WithInitialTermSize(80, 24))
	wait := func(text string) {
		t.Helper()
		teatest.WaitFor(t, tm.Output(), func(b []byte) bool { return bytes.Contains(b, []byte(text)) }, teatest.WithDuration(10*time.Second))
	}
	wait("Connecting to prod-a")
	var merger feed.Merger
	merger.Fold(&pb.WatchPoolResponse{Revision: 1, Change: &pb.WatchPoolResponse_Snapshot{Snapshot: fakepool.Troubled()}})
	s.news <- feed.Update{View: merger.View(), Link: s.Link()}
	wait("PROBLEMS 6")
	tm.Send(tea.WindowSizeMsg{Width: 120, Height: 40})
	wait("1 Overview")
	tm.Type("H")
	wait("Pool HA OFF")
	tm.Send(tea.KeyMsg{Type: tea.KeyTab})
	tm.Type("prod-a")
	wait("prod-a")
	tm.Send(tea.KeyMsg{Type: tea.KeyTab})
	tm.Send(tea.KeyMsg{Type: tea.KeyTab})
	tm.Send(tea.KeyMsg{Type: tea.KeyEnter})
	select {
	case req := <-s.calls:
		if r, ok := req.(*pb.SetPoolHARequest); !ok || r.GetOn() {
			t.Errorf("sent %v", req)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was sent")
	}
	tm.Type("q")
	tm.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
	s.Close()
}

func TestKeysTypedFastAreTakenApartAndAPasteIsNot(t *testing.T) {
	got := keysOf(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3jm")}, time.Time{})
	if len(got) != 3 || got[0].Name != "3" || got[2].Text != "m" {
		t.Errorf("keys %v", got)
	}
	got = keysOf(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3jm"), Paste: true}, time.Time{})
	if len(got) != 1 || got[0].Name != "paste" || got[0].Text != "3jm" {
		t.Errorf("paste %v", got)
	}
	if got = keysOf(tea.KeyMsg{Type: tea.KeyEnter}, time.Time{}); got[0].Name != "enter" || got[0].Text != "" {
		t.Errorf("enter %v", got)
	}
}
