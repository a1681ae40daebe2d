package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func TestHAOfThePoolIsSwitchedOnOnceThePoolCanLoseAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []struct {
			text string
			code int
		}{{"no agent answers\n", 3}, {"etcd has 2 votes\n", 1}, {"etcd has 2 votes\n", 1}, {"HA of the pool is on\n", 0}}
		asked := 0
		var out bytes.Buffer
		err := switchHA(t.Context(), clock.Real(), &out, func(context.Context) (string, int, error) {
			asked++
			return answers[asked-1].text, answers[asked-1].code, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := "HA of the pool waits: no agent answers\nHA of the pool waits: etcd has 2 votes\nHA of the pool is on\n"; out.String() != want {
			t.Errorf("it says\n%s\nwant each reason once\n%s", out.String(), want)
		}
	})
}

func TestHAThatCannotBeSwitchedOnIsToldWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var out bytes.Buffer
		err := switchHA(t.Context(), clock.Real(), &out, func(context.Context) (string, int, error) { return "etcd has 2 votes", 1, nil })
		if err == nil || !strings.Contains(err.Error(), "this server is in the pool and started; HA of the pool is not on: holdfast ha on: etcd has 2 votes") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took < nextLimit-nextEvery || took > nextLimit+nextEvery {
			t.Errorf("given up after %v", took)
		}
		for name, answer := range map[string]func(context.Context) (string, int, error){
			"wrong in itself": func(context.Context) (string, int, error) { return "no such pool", exitUsage, nil },
			"no program":      func(context.Context) (string, int, error) { return "", 0, errors.New("holdfast: not found") },
		} {
			began := time.Now()
			if err := switchHA(t.Context(), clock.Real(), &out, answer); err == nil || time.Since(began) > 0 {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
	})
}

func TestStepsThatNeedTheServicesAreRefusedWithoutThem(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"init --pool prod --tokens 2", "--tokens needs --start"},
		{"init --pool prod --start --tokens -1", "--tokens -1: must be from 1 to 100"},
		{"init --pool prod --start --tokens 101", "--tokens 101: must be from 1 to 100"},
		{"join TOKEN --ha", "--ha needs --start"},
		{"join TOKEN --start --ha --witness", "[ha witness] were all set"},
	} {
		cmd := root()
		cmd.SetArgs(strings.Fields(c.args))
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
	if err := checkTokens(3, true); err != nil {
		t.Error(err)
	}
	if err := checkTokens(0, false); err != nil {
		t.Error(err)
	}
	if err := checkTokens(-1, true); !errors.Is(err, pool.ErrInvalid) {
		t.Error(err)
	}
}
