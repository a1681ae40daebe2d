package wire

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// fromKey lists the fields that are no part of a message: pkg/store takes them from the key.
var fromKey = map[string]bool{
	"Config.Revision": true, "Server.Revision": true, "Member.Revision": true, "Member.Session": true,
	"Fence.Revision": true, "Roster.Revision": true, "VM.Revision": true, "Claim.Revision": true,
	"VMState.Revision": true, "Home.Revision": true, "Alert.Revision": true, "Operation.Revision": true,
	"Event.Revision": true, "Revocation.Revision": true, "Incident.Revision": true,
}

// lastOf gives the highest value of each enum, so that generated ones exist.
var lastOf = map[reflect.Type]int{
	reflect.TypeFor[pool.Phase]():          int(pool.PhaseReleasing),
	reflect.TypeFor[pool.Cause]():          int(pool.CauseMigrationFailed),
	reflect.TypeFor[pool.Isolation]():      int(pool.IsolationPause),
	reflect.TypeFor[pool.ShutdownPolicy](): int(pool.ShutdownFreeze),
	reflect.TypeFor[pool.Proof]():          int(pool.ProofConfirmed),
	reflect.TypeFor[pool.Standing]():       int(pool.StandingInForce),
	reflect.TypeFor[pool.Priority]():       int(pool.PriorityHigh),
	reflect.TypeFor[pool.Desired]():        int(pool.DesiredKilled),
	reflect.TypeFor[pool.NeedKind]():       int(pool.NeedCPU),
	reflect.TypeFor[pool.RunState]():       int(pool.RunStopped),
	reflect.TypeFor[pool.OperationKind]():  int(pool.OperationShutdownServer),
	reflect.TypeFor[pool.Outcome]():        int(pool.OutcomeCancelled),
	reflect.TypeFor[pool.Recovery]():       int(pool.RecoveryLeft),
}

// fill sets every field of v that a message can carry. full forbids zero values, so that a forgotten field shows.
func fill(t *rapid.T, v reflect.Value, full bool) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		fillTime(t, v, full)
		return
	}
	if last, ok := lastOf[v.Type()]; ok {
		v.SetInt(int64(rapid.IntRange(least(full), last).Draw(t, v.Type().Name())))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); !fromKey[v.Type().Name()+"."+f.Name] {
				fill(t, v.Field(i), full)
			}
		}
	case reflect.Pointer:
		if full || rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), full)
		}
	case reflect.String:
		v.SetString(rapid.StringN(least(full), 8, -1).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(full || rapid.Bool().Draw(t, "bool"))
	case reflect.Int:
		v.SetInt(int64(rapid.IntRange(least(full), math.MaxInt32).Draw(t, "int")))
	case reflect.Int64:
		v.SetInt(rapid.Int64Range(int64(least(full)), math.MaxInt64).Draw(t, "int64"))
	case reflect.Slice:
		fillSlice(t, v, full)
	case reflect.Map:
		fillMap(t, v, full)
	default:
		t.Fatalf("a field of kind %v is new: teach this test about it", v.Kind())
	}
}

func fillTime(t *rapid.T, v reflect.Value, full bool) {
	if full || rapid.Bool().Draw(t, "has time") {
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")).UTC()
		v.Set(reflect.ValueOf(at))
	}
}

// fillSlice leaves empty slices nil: messages do not tell the two apart.
func fillSlice(t *rapid.T, v reflect.Value, full bool) {
	n := rapid.IntRange(least(full), 3).Draw(t, "length")
	for range n {
		e := reflect.New(v.Type().Elem()).Elem()
		fill(t, e, full)
		v.Set(reflect.Append(v, e))
	}
}

func fillMap(t *rapid.T, v reflect.Value, full bool) {
	n := rapid.IntRange(least(full), 3).Draw(t, "entries")
	if n > 0 {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for range n {
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, k, full)
		fill(t, e, full)
		v.SetMapIndex(k, e)
	}
}

func least(full bool) int {
	if full {
		return 1
	}
	return 0
}

// requireFull fails for a field of v that is zero although a message carries it: the generator missed it.
func requireFull(t *rapid.T, v reflect.Value) {
	for i := range v.NumField() {
		name := v.Type().Name() + "." + v.Type().Field(i).Name
		if !fromKey[name] && v.Field(i).IsZero() {
			t.Fatalf("%s was not filled: the test would not see it lost", name)
		}
	}
}

// survives checks that a record outlives the way to JSON in etcd and back, field by field.
func survives[P any, M proto.Message](t *testing.T, to func(P) M, from func(M) (P, error)) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		var want P
		full := rapid.Bool().Draw(t, "full")
		fill(t, reflect.ValueOf(&want).Elem(), full)
		if full {
			requireFull(t, reflect.ValueOf(want))
		}
		m := to(want)
		data, err := protojson.Marshal(m)
		if err != nil {
			t.Fatalf("marshal %+v: %v", want, err)
		}
		back, ok := m.ProtoReflect().New().Interface().(M)
		if !ok {
			t.Fatalf("no new %T", m)
		}
		if err := protojson.Unmarshal(data, back); err != nil {
			t.Fatalf("unmarshal %s: %v", data, err)
		}
		got, err := from(back)
		if err != nil {
			t.Fatalf("parse %s: %v", data, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v\nfrom %s", got, want, data)
		}
	})
}

func TestEveryFieldOfAConfigSurvives(t *testing.T)     { survives(t, Config, ParseConfig) }
func TestEveryFieldOfAServerSurvives(t *testing.T)     { survives(t, Server, ParseServer) }
func TestEveryFieldOfAMemberSurvives(t *testing.T)     { survives(t, Member, ParseMember) }
func TestEveryFieldOfAFenceSurvives(t *testing.T)      { survives(t, Fence, ParseFence) }
func TestEveryFieldOfARosterSurvives(t *testing.T)     { survives(t, Roster, ParseRoster) }
func TestEveryFieldOfAVMSurvives(t *testing.T)         { survives(t, VM, ParseVM) }
func TestEveryFieldOfAVMStateSurvives(t *testing.T)    { survives(t, VMState, ParseVMState) }
func TestEveryFieldOfAHomeSurvives(t *testing.T)       { survives(t, Home, ParseHome) }
func TestEveryFieldOfAClaimSurvives(t *testing.T)      { survives(t, Claim, ParseClaim) }
func TestEveryFieldOfAnIncidentSurvives(t *testing.T)  { survives(t, Incident, ParseIncident) }
func TestEveryFieldOfAnAlertSurvives(t *testing.T)     { survives(t, Alert, ParseAlert) }
func TestEveryFieldOfAnOperationSurvives(t *testing.T) { survives(t, Operation, ParseOperation) }
func TestEveryFieldOfARevocationSurvives(t *testing.T) { survives(t, Revocation, ParseRevocation) }
func TestEveryFieldOfAnEventSurvives(t *testing.T)     { survives(t, Event, ParseEvent) }

func TestEnumsHaveTheSameNumbersAndSizesOnBothSides(t *testing.T) {
	for _, tt := range []struct {
		name string
		last int
		sent map[int32]string
	}{
		{"phase", int(pool.PhaseReleasing), pb.ClaimPhase_name},
		{"cause", int(pool.CauseMigrationFailed), pb.ReleaseCause_name},
		{"isolation", int(pool.IsolationPause), pb.Isolation_name},
		{"shutdown", int(pool.ShutdownFreeze), pb.ShutdownPolicy_name},
		{"proof", int(pool.ProofConfirmed), pb.Proof_name},
		{"standing", int(pool.StandingInForce), pb.Standing_name},
		{"priority", int(pool.PriorityHigh), pb.Priority_name},
		{"desired", int(pool.DesiredKilled), pb.DesiredState_name},
		{"need", int(pool.NeedCPU), pb.NeedKind_name},
		{"run state", int(pool.RunStopped), pb.RunState_name},
		{"operation kind", int(pool.OperationShutdownServer), pb.OperationKind_name},
		{"outcome", int(pool.OutcomeCancelled), pb.OperationOutcome_name},
	} {
		if got := len(tt.sent) - 1; got != tt.last {
			t.Errorf("%s: the message's last value is %d, the pool's %d", tt.name, got, tt.last)
		}
	}
}

func TestAnUnknownEnumValueIsAnError(t *testing.T) {
	_, err := ParseClaim(&pb.Claim{Phase: 99})
	if !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("phase 99: got %v, want %v", err, pool.ErrInvalid)
	}
	if _, err := ParseRoster(&pb.Roster{Standing: map[string]pb.Standing{"a": -1}}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("standing -1: got %v, want %v", err, pool.ErrInvalid)
	}
}

func TestNilMessagesAreZeroRecords(t *testing.T) {
	if c, err := ParseClaim(nil); err != nil || !reflect.DeepEqual(c, pool.Claim{}) {
		t.Errorf("nil claim: got %+v, %v", c, err)
	}
	if o, err := ParseOperation(nil); err != nil || o != (pool.Operation{}) {
		t.Errorf("nil operation: got %+v, %v", o, err)
	}
}

func TestWhatJSONCannotCarryIsReplacedNotRefused(t *testing.T) {
	s := VMState(pool.VMState{VM: "a", Reason: "broken \xff byte", Since: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)})
	data, err := protojson.Marshal(s)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	if s.Reason != "broken \uFFFD byte" || s.Since != nil {
		t.Errorf("got %s", data)
	}
	if got := VM(pool.VM{CPUs: math.MaxInt64}).Cpus; got != math.MaxInt32 {
		t.Errorf("too many CPUs: got %d, want %d", got, math.MaxInt32)
	}
}
