package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// CorruptError says that a key holds a value that is no valid record. See the package comment for what follows.
type CorruptError struct {
	Key    string
	Reason string
}

// Error names the key and the reason. It never quotes the value at length.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("key %s cannot be read: %s", e.Key, e.Reason)
}

// Is makes errors.Is(e, pool.ErrInvalid) true.
func (e *CorruptError) Is(target error) bool { return target == pool.ErrInvalid }

// encode writes m as compact JSON, the same bytes for the same message in every build. It fails only for text
// that is not UTF-8 and for times out of range, neither of which pkg/wire lets through.
func encode(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(len(loose))
	if err := json.Compact(&b, loose); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decode reads a value into m. Fields that this version does not know are ignored; enum words that it does not
// know are an error, because leaving one out would change the meaning of the rest.
func decode(value []byte, m proto.Message) error {
	strict := protojson.Unmarshal(value, m)
	if strict == nil {
		return nil
	}
	proto.Reset(m)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(value, m); err != nil {
		return fmt.Errorf("not a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return checkWords(value, m.ProtoReflect().Descriptor())
}

// checkWords looks through the JSON of a message for enum words that its descriptor lacks.
func checkWords(value []byte, d protoreflect.MessageDescriptor) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return nil //nolint:nilerr // not an object: a well-known type with a form of its own, such as a time
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		for _, name := range []string{f.JSONName(), string(f.Name())} {
			if raw, ok := fields[name]; ok {
				if err := checkField(raw, f); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	}
	return nil
}

// checkField does so for one field, and for each element of a list or map.
func checkField(raw json.RawMessage, f protoreflect.FieldDescriptor) error {
	switch {
	case f.IsMap():
		var all map[string]json.RawMessage
		if json.Unmarshal(raw, &all) == nil {
			for _, k := range slices.Sorted(maps.Keys(all)) {
				if err := checkOne(all[k], f.MapValue()); err != nil {
					return err
				}
			}
		}
	case f.IsList():
		var all []json.RawMessage
		if json.Unmarshal(raw, &all) == nil {
			for _, v := range all {
				if err := checkOne(v, f); err != nil {
					return err
				}
			}
		}
	default:
		return checkOne(raw, f)
	}
	return nil
}

func checkOne(raw json.RawMessage, f protoreflect.FieldDescriptor) error {
	if f.Message() != nil {
		return checkWords(raw, f.Message())
	}
	if f.Enum() == nil {
		return nil
	}
	var word string
	if json.Unmarshal(raw, &word) != nil {
		return nil // a number: pkg/wire judges it
	}
	if f.Enum().Values().ByName(protoreflect.Name(word)) == nil {
		return fmt.Errorf("value %q is not known to this version: %w", brief(word), pool.ErrInvalid)
	}
	return nil
}

// brief cuts text that came from a broken value, so that it cannot flood a log or a screen.
func brief(s string) string {
	const limit = 160
	clean := bytes.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, bytes.ToValidUTF8([]byte(s), []byte("?")))
	if len(clean) > limit {
		return string(bytes.ToValidUTF8(clean[:limit], nil)) + "..."
	}
	return string(clean)
}
