package etcd

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestWhileNobodyAnswersTheCopyOnDiskSaysWhereEtcdIs(t *testing.T) {
	var applied [][]string
	e := &Endpoints{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Apply: func(urls ...string) { applied = append(applied, urls) },
		View: func(context.Context) (View, error) { return View{}, pool.ErrUnavailable }}
	step := func(want ...string) {
		t.Helper()
		if err := e.Step(t.Context()); err == nil {
			t.Fatal("nobody answered, and it says nothing")
		}
		if last := applied[len(applied)-1]; !slices.Equal(last, want) {
			t.Errorf("asks %v, want %v", last, want)
		}
	}
	keep := func(urls ...string) {
		t.Helper()
		if err := SaveEndpoints(e.Dir, urls); err != nil {
			t.Fatal(err)
		}
	}
	keep("https://srv-2:2379", "https://srv-3:2379")
	step("https://srv-2:2379", "https://srv-3:2379")
	keep("https://srv-1:2379") // the pool was rebuilt there
	step("https://srv-1:2379")
	step("https://srv-1:2379")
	if len(applied) != 2 {
		t.Errorf("told the client %d times of 2 changes: %v", len(applied), applied)
	}
}
