package etcd

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo makes a zap logger, which etcd wants, that writes to a slog logger, from level on, and nothing while quiet:
// when it is stopped, etcd reports each closed listener as an error.
func zapTo(log *slog.Logger, level slog.Level, quiet *atomic.Bool) *zap.Logger {
	return zap.New(&core{log: log, level: level, quiet: quiet}, zap.WithPanicHook(onPanic{}))
}

// notListed is what etcd panics with when a client's request meets the removal of the very member that serves it: it
// asks whether it is in the list, then whether it is a learner (3.7.3, api/v3rpc/interceptor.go). That member is about
// to stop; only the request has to end.
const notListed = "failed to find local ID in cluster members"

type onPanic struct{}

// OnWrite implements zapcore.CheckWriteHook.
func (onPanic) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	if e.Message == notListed {
		runtime.Goexit()
	}
	zapcore.WriteThenPanic.OnWrite(e, fields)
}

type core struct {
	log   *slog.Logger
	level slog.Level
	quiet *atomic.Bool
}

// expected are warnings about what is meant to be so: one port for all clients, and tokens for passwords, which
// nobody has here.
var expected = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
}

func (c *core) Enabled(l zapcore.Level) bool {
	return levelOf(l) >= c.level && !c.quiet.Load() && c.log.Enabled(context.Background(), levelOf(l))
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log.With(attrs(fields)...), level: c.level, quiet: c.quiet}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !expected[e.Message] {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), levelOf(e.Level), e.Message, attrs(fields)...)
	return nil
}

func (c *core) Sync() error { return nil }

func attrs(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	var out []any
	for _, f := range fields {
		f.AddTo(m)
		if v, ok := m.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}

func levelOf(l zapcore.Level) slog.Level {
	switch {
	case l <= zapcore.DebugLevel:
		return slog.LevelDebug
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}
