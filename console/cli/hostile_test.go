package cli

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// fill sets fields of a message at random, to any depth that matters here.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !rapid.Bool().Draw(t, string(f.Name())) {
			continue
		}
		switch {
		case f.IsMap():
			// Maps hold labels and keys of etcd; text is covered by the other fields.
		case f.IsList():
			l := m.Mutable(f).List()
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				if f.Kind() == protoreflect.MessageKind {
					e := l.NewElement()
					if depth > 0 {
						fill(t, e.Message(), depth-1)
					}
					l.Append(e)
				} else {
					l.Append(scalar(t, f))
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			if depth > 0 {
				fill(t, m.Mutable(f).Message(), depth-1)
			}
		default:
			m.Set(f, scalar(t, f))
		}
	}
}

func scalar(t *rapid.T, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.String().Draw(t, "text"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, "int32"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.Int32Range(-1, 20).Draw(t, "enum")))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, "int64"))
	}
	return f.Default()
}

func TestWhateverAnAgentSaysTheLinesAreCleanAndFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := &pb.Snapshot{}
		fill(t, snap.ProtoReflect(), 3)
		if snap.GetPool() == nil {
			snap.Pool = &pb.PoolView{}
		}
		st := newState()
		st.fold(&pb.WatchPoolResponse{Change: &pb.WatchPoolResponse_Snapshot{Snapshot: proto.CloneOf(snap)}})
		width := rapid.IntRange(40, 220).Draw(t, "width")
		p := page{now: fakepool.Now, width: width, paint: painter(false)}
		check := func(what string, lines []string, limit int) {
			for _, line := range lines {
				if text.Clean(line) != line {
					t.Fatalf("%s: %q is not clean", what, line)
				}
				if limit > 0 && text.Width(line) > limit {
					t.Fatalf("%s: %q takes %d of %d cells", what, line, text.Width(line), limit)
				}
			}
		}
		for _, l := range []*list{statusList, serverList, vmList, operationList, eventList, alertList} {
			check(l.name, l.lay(p, st, &filter{}), width)
			l.lines(st, &filter{})
		}
		for _, v := range snap.GetVms() {
			check("vm show", layVM(p, v, snap.GetPool().GetConfig()), width)
		}
		for _, s := range snap.GetServers() {
			check("server show", layServer(p, s), width)
		}
		check("pool show", layPool(p, snap.GetPool()), 0)
	})
}
