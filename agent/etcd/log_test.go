package etcd

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
)

func TestEtcdsMessagesReachTheLogFromTheirLevelOnAndNoneWhileItStops(t *testing.T) {
	var out bytes.Buffer
	var quiet atomic.Bool
	log := zapTo(slog.New(slog.NewTextHandler(&out, nil)), slog.LevelWarn, &quiet)
	log.Info("too low")
	log.With(zap.String("peer", "b")).Warn("peer is slow", zap.Int("n", 3), zap.Error(errors.New("late")))
	for message := range expected {
		log.Warn(message)
	}
	quiet.Store(true)
	log.Error("server closed")
	got := out.String()
	if strings.Count(got, "\n") != 1 {
		t.Fatalf("want one line:\n%s", got)
	}
	for _, w := range []string{"level=WARN", `msg="peer is slow"`, "peer=b", "n=3", "error=late"} {
		if !strings.Contains(got, w) {
			t.Errorf("%q lacks %q", got, w)
		}
	}
}

func TestARequestThatMeetsItsMembersRemovalEndsAlone(t *testing.T) {
	var quiet atomic.Bool
	log := zapTo(slog.New(slog.DiscardHandler), slog.LevelWarn, &quiet)
	ended := make(chan any, 1)
	try := func(message string) any {
		go func() {
			defer func() { ended <- recover() }()
			log.Panic(message)
		}()
		return <-ended
	}
	if r := try(notListed); r != nil {
		t.Errorf("panic %v", r)
	}
	if r := try("raft log is broken"); r == nil {
		t.Error("any other panic of etcd must end the process")
	}
}
