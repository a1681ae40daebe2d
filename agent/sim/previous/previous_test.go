package previous

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/kv/kvtest"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// full is a message in which every field has a value.
func full(d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch {
		case f.IsMap():
			if v, ok := value(f.MapValue(), depth); ok {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString("key").MapKey(), v)
			}
		case f.IsList():
			if v, ok := value(f, depth); ok {
				m.Mutable(f).List().Append(v)
			}
		default:
			if v, ok := value(f, depth); ok {
				m.Set(f, v)
			}
		}
	}
	return m
}

func value(f protoreflect.FieldDescriptor, depth int) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if depth == 0 {
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfMessage(full(f.Message(), depth-1)), true
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number()), true
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true), true
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("text"), true
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("bytes")), true
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(7), true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(7), true
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(7), true
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(0.5), true
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(0.5), true
	default:
		return protoreflect.ValueOfInt64(7), true
	}
}

func TestEveryValueOfThePreviousVersionIsReadWithoutLoss(t *testing.T) {
	for kind, name := range records {
		d, err := Record(kind)
		if err != nil || d == nil {
			t.Fatalf("%s: no descriptor (%v)", kind, err)
		}
		said := full(d, 4)
		raw, err := compact(said)
		if err != nil {
			t.Fatal(err)
		}
		now, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("holdfast.v1." + name))
		if err != nil {
			t.Fatalf("%s was taken away: %v", name, err)
		}
		m := now.New().Interface()
		if err := protojson.Unmarshal(raw, m); err != nil {
			t.Errorf("%s is not read any more: %v", name, err)
			continue
		}
		back, err := compact(m)
		if err != nil {
			t.Fatal(err)
		}
		again := dynamicpb.NewMessage(d)
		if err := protojson.Unmarshal(back, again); err != nil || !proto.Equal(again, said) {
			t.Errorf("%s comes back as %s, was %s (%v)", name, back, raw, err)
		}
	}
}

func TestThePreviousVersionReadsEveryValueOfThisOneAsFarAsItKnows(t *testing.T) {
	for kind, name := range records {
		now, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("holdfast.v1." + name))
		if err != nil {
			t.Fatal(err)
		}
		d, err := Record(kind)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := compact(full(now.Descriptor(), 4))
		if err != nil {
			t.Fatal(err)
		}
		seen, err := Seen(kind, raw)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(seen, unreadable) {
			t.Logf("%s with a new word cannot be read by the previous version: it does nothing to what that stands for", name)
			continue
		}
		if err := protojson.Unmarshal(seen, dynamicpb.NewMessage(d)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatThePreviousVersionDoesNotKnowItNeitherSeesNorKeeps(t *testing.T) {
	edge := kvtest.NewMemory(clock.Real())
	old := Store(edge, "/p/")
	value := `{"server":"s1","fromTheFuture":{"deep":[1]},"version":"9.9.9"}`
	if _, err := edge.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("/p/members/s1", []byte(value)), kv.Put("/p/other", []byte(value))}}); err != nil {
		t.Fatal(err)
	}
	e, ok, err := old.Get(t.Context(), "/p/members/s1")
	if err != nil || !ok || string(e.Value) != `{"server":"s1","version":"9.9.9"}` {
		t.Errorf("seen: %s (%v, %v)", e.Value, ok, err)
	}
	if other, _, err := old.Get(t.Context(), "/p/other"); err != nil || string(other.Value) != value {
		t.Errorf("a key of no kind: %s (%v)", other.Value, err)
	}
	if _, err := old.Txn(t.Context(), kv.Txn{If: []kv.Compare{kv.ModIs(e.Key, e.ModRevision)}, Then: []kv.Op{kv.Put(e.Key, []byte(value))}}); err != nil {
		t.Fatal(err)
	}
	if now, _, err := edge.Get(t.Context(), e.Key); err != nil || string(now.Value) != `{"server":"s1","version":"9.9.9"}` {
		t.Errorf("written: %s (%v)", now.Value, err)
	}
	if seen, err := Seen("claims", []byte(`{"vm":"a","phase":"CLAIM_PHASE_OF_THE_FUTURE"}`)); err != nil || !bytes.Equal(seen, unreadable) {
		t.Errorf("a claim with a word of the future is seen as %s (%v): it must be unreadable, not without a phase", seen, err)
	}
}

// The same rules as `buf breaking`, on which they rest where it is not at hand: names and numbers are what values in
// etcd and callers of the API depend on.
func TestNothingThatThePreviousVersionSaysWasTakenAwayOrChanged(t *testing.T) {
	_ = holdfastv1.File_holdfast_v1_types_proto // registers the API
	files, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	messages, methods := 0, 0
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if f.Package() != "holdfast.v1" {
			return true
		}
		for i := range f.Messages().Len() {
			messages++
			sameMessage(t, f.Messages().Get(i))
		}
		for i := range f.Enums().Len() {
			sameEnum(t, f.Enums().Get(i))
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				methods++
				sameMethod(t, s.Methods().Get(j))
			}
		}
		return true
	})
	if messages < 50 || methods < 40 {
		t.Errorf("only %d messages and %d calls were compared", messages, methods)
	}
}

func now(t *testing.T, d protoreflect.Descriptor) protoreflect.Descriptor {
	t.Helper()
	n, err := protoregistry.GlobalFiles.FindDescriptorByName(d.FullName())
	if err != nil {
		t.Errorf("%s was taken away", d.FullName())
		return nil
	}
	return n
}

func sameMessage(t *testing.T, old protoreflect.MessageDescriptor) {
	t.Helper()
	d, ok := now(t, old).(protoreflect.MessageDescriptor)
	if !ok {
		return
	}
	for i := range old.Fields().Len() {
		was := old.Fields().Get(i)
		is := d.Fields().ByName(was.Name())
		if is == nil || is.Number() != was.Number() || is.Kind() != was.Kind() || is.Cardinality() != was.Cardinality() || is.JSONName() != was.JSONName() ||
			is.Message() != nil && is.Message().FullName() != was.Message().FullName() || is.Enum() != nil && is.Enum().FullName() != was.Enum().FullName() {
			t.Errorf("%s was taken away or changed", was.FullName())
		}
	}
	for i := range old.Messages().Len() {
		sameMessage(t, old.Messages().Get(i))
	}
	for i := range old.Enums().Len() {
		sameEnum(t, old.Enums().Get(i))
	}
}

func sameEnum(t *testing.T, old protoreflect.EnumDescriptor) {
	t.Helper()
	d, ok := now(t, old).(protoreflect.EnumDescriptor)
	if !ok {
		return
	}
	for i := range old.Values().Len() {
		was := old.Values().Get(i)
		if is := d.Values().ByName(was.Name()); is == nil || is.Number() != was.Number() {
			t.Errorf("%s was taken away or changed", was.FullName())
		}
	}
}

func sameMethod(t *testing.T, old protoreflect.MethodDescriptor) {
	t.Helper()
	d, ok := now(t, old).(protoreflect.MethodDescriptor)
	if ok && !slices.Equal(shape(d), shape(old)) {
		t.Errorf("%s: %v, was %v", old.FullName(), shape(d), shape(old))
	}
}

func shape(m protoreflect.MethodDescriptor) []any {
	return []any{m.Input().FullName(), m.IsStreamingClient(), m.Output().FullName(), m.IsStreamingServer()}
}
