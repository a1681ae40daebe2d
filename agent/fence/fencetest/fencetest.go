package fencetest

import (
	"context"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Fencer is what is judged; see agent/leader's Fencer for what each promises.
type Fencer interface {
	PowerOff(ctx context.Context, server pool.Server) (evidence string, err error)
	PowerOn(ctx context.Context, server pool.Server) error
	CheckOn(ctx context.Context, server pool.Server) error
}

// Edge is a server that has power, and a switch for it that works.
type Edge struct {
	Fencer Fencer
	Server pool.Server
	// HasPower looks at the power itself, not at what the switch says.
	HasPower func() bool
	// Break and Mend make the switch fail each request, and work again; the power stays as it is.
	Break, Mend func()
	// Do runs f where calls of the Fencer may wait; it returns when f has.
	Do func(f func())
}

// Run judges the edges that make makes, each rule on one of its own.
func Run(t *testing.T, make func(t *testing.T) Edge) {
	t.Helper()
	for name, rule := range map[string]func(ctx context.Context, t *testing.T, e Edge){
		"off is proven when the power is off":              offIsProven,
		"what is off already is proven off":                offTwice,
		"on is on":                                         onIsOn,
		"a look changes nothing":                           lookingChangesNothing,
		"a switch that fails proves nothing":               failureProvesNothing,
		"a switch that works again is used again":          mended,
		"a server without a switch is never proven off":    noSwitch,
		"what was given up before it began proves nothing": givenUp,
	} {
		t.Run(name, func(t *testing.T) {
			e := make(t)
			e.Do(func() { rule(t.Context(), t, e) })
		})
	}
}

// off wants the power gone, and proven so.
func off(ctx context.Context, t *testing.T, e Edge) {
	t.Helper()
	if evidence, err := e.Fencer.PowerOff(ctx, e.Server); err != nil || evidence == "" {
		t.Errorf("PowerOff = %q, %v; want evidence", evidence, err)
	}
	if e.HasPower() {
		t.Error("proven off, and has power")
	}
}

// unproven wants an error, and no word that could be taken for evidence.
func unproven(ctx context.Context, t *testing.T, e Edge) {
	t.Helper()
	if evidence, err := e.Fencer.PowerOff(ctx, e.Server); err == nil || evidence != "" {
		t.Errorf("PowerOff = %q, %v; want an error and no evidence", evidence, err)
	}
}

func offIsProven(ctx context.Context, t *testing.T, e Edge) { off(ctx, t, e) }

func offTwice(ctx context.Context, t *testing.T, e Edge) {
	off(ctx, t, e)
	off(ctx, t, e)
}

func onIsOn(ctx context.Context, t *testing.T, e Edge) {
	off(ctx, t, e)
	if err := e.Fencer.PowerOn(ctx, e.Server); err != nil {
		t.Errorf("PowerOn: %v", err)
	}
	if !e.HasPower() {
		t.Error("switched on, and has no power")
	}
}

func lookingChangesNothing(ctx context.Context, t *testing.T, e Edge) {
	if err := e.Fencer.CheckOn(ctx, e.Server); err != nil || !e.HasPower() {
		t.Errorf("CheckOn of a server that runs: %v, power %v", err, e.HasPower())
	}
	off(ctx, t, e)
	if err := e.Fencer.CheckOn(ctx, e.Server); err == nil || e.HasPower() {
		t.Errorf("CheckOn of a server that is off: %v, power %v; want an error, and that it stays off", err, e.HasPower())
	}
}

func failureProvesNothing(ctx context.Context, t *testing.T, e Edge) {
	e.Break()
	unproven(ctx, t, e)
	if !e.HasPower() {
		t.Error("the switch failed, and the power is gone")
	}
	if err := e.Fencer.CheckOn(ctx, e.Server); err == nil {
		t.Error("CheckOn says nothing of a switch that fails")
	}
	if err := e.Fencer.PowerOn(ctx, e.Server); err == nil {
		t.Error("PowerOn says nothing of a switch that fails")
	}
}

func mended(ctx context.Context, t *testing.T, e Edge) {
	e.Break()
	unproven(ctx, t, e)
	e.Mend()
	off(ctx, t, e)
}

func noSwitch(ctx context.Context, t *testing.T, e Edge) {
	e.Server = pool.Server{ID: "srv-without"}
	unproven(ctx, t, e)
}

func givenUp(ctx context.Context, t *testing.T, e Edge) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	unproven(ended, t, e)
}
