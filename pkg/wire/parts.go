package wire

import (
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Mark returns m's message, or nil for the zero mark.
func Mark(m pool.Mark) *pb.Mark {
	if m.By == "" && m.Why == "" && m.At.IsZero() {
		return nil
	}
	return &pb.Mark{By: text(m.By), At: stamp(m.At), Why: text(m.Why)}
}

// ParseMark is the reverse of Mark. It fails with pool.ErrInvalid for a time that is none.
func ParseMark(m *pb.Mark) (pool.Mark, error) {
	var p parser
	mark := pool.Mark{By: m.GetBy(), At: p.time("at", m.GetAt()), Why: m.GetWhy()}
	return mark, p.err
}

// parser collects the first thing that cannot be translated, so that a record reads as one literal.
type parser struct{ err error }

// fail remembers the first error.
func (p *parser) fail(field string, err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("%s: %w", field, err)
	}
}

func (p *parser) mark(field string, m *pb.Mark) pool.Mark {
	mark, err := ParseMark(m)
	p.fail(field, err)
	return mark
}

// time returns the zero time for an absent stamp.
func (p *parser) time(field string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	if err := t.CheckValid(); err != nil {
		p.fail(field, fmt.Errorf("no such time: %w", pool.ErrInvalid))
		return time.Time{}
	}
	return t.AsTime()
}

// duration returns zero for an absent one.
func (p *parser) duration(field string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if err := d.CheckValid(); err != nil {
		p.fail(field, fmt.Errorf("no such duration: %w", pool.ErrInvalid))
		return 0
	}
	return d.AsDuration()
}

// enum accepts 0..last; the numbers of both worlds are the same.
func enum[P ~int, M ~int32](p *parser, field string, v M, last P) P {
	if v < 0 || int(v) > int(last) {
		p.fail(field, fmt.Errorf("value %d is not known to this version: %w", v, pool.ErrInvalid))
		return 0
	}
	return P(v)
}

// text replaces what is not UTF-8. It returns valid text as it is.
func text[S ~string](s S) string { return strings.ToValidUTF8(string(s), "\uFFFD") }

// number saturates at what 32 bits hold.
func number(n int) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, n))) }

// stamp returns nil for the zero time, and for one that a timestamp cannot hold (before year 1, after 9999).
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	s := timestamppb.New(t)
	if !s.IsValid() {
		return nil
	}
	return s
}

func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// texts copies a list of words; nil for an empty one.
func texts[S ~string](list []S) []string {
	return convert(list, text[S])
}

func words[S ~string](list []string) []S {
	return convert(list, func(s string) S { return S(s) })
}

// convert maps f over list; nil for an empty one.
func convert[A, B any](list []A, f func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = f(a)
	}
	return out
}

// textMap copies a map of words; nil for an empty one.
func textMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[text(k)] = text(v)
	}
	return out
}
