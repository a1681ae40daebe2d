package previous

import (
	"bytes"
	_ "embed" // the API of the version before this one
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

//go:embed api.binpb
var api []byte

// records names the message behind each kind of key (docs/etcd.md).
var records = map[string]string{
	"config": "PoolConfig", "servers": "Server", "seats": "Seat", "members": "Member", "roster": "Roster", "vms": "VM", "claims": "Claim",
	"states": "VMState", "homes": "Home", "fences": "Fence", "alerts": "Alert", "operations": "Operation", "events": "Event",
	"incidents": "Incident", "tokens": "JoinToken", "revoked": "Revocation",
}

// Files returns the descriptors of the version before this one.
var Files = sync.OnceValues(func() (*protoregistry.Files, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(api, &set); err != nil {
		return nil, fmt.Errorf("the previous version's API: %w", err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("the previous version's API: %w", err)
	}
	return files, nil
})

// Record returns that version's message for values of a kind of key; nil if it has none.
func Record(kind string) (protoreflect.MessageDescriptor, error) {
	name, ok := records[kind]
	if !ok {
		return nil, nil //nolint:nilnil // a kind without a message is no error
	}
	files, err := Files()
	if err != nil {
		return nil, err
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName("holdfast.v1." + name))
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // a record that this version added
	}
	m, _ := d.(protoreflect.MessageDescriptor)
	return m, nil
}

// unreadable is what a value looks like to a version that cannot read it.
var unreadable = []byte(`"of a later version"`)

// Seen returns a value below a key of kind as the previous version sees it: without what it does not know.
func Seen(kind string, value []byte) ([]byte, error) {
	d, err := Record(kind)
	if err != nil || d == nil {
		return value, err
	}
	m := dynamicpb.NewMessage(d)
	if protojson.Unmarshal(value, m) == nil {
		return value, nil
	}
	proto.Reset(m)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(value, m); err != nil {
		return value, nil //nolint:nilerr // no version can read it
	}
	known, err := compact(m)
	if err != nil {
		return nil, err
	}
	if newWord(value, known, d) {
		return unreadable, nil
	}
	return known, nil
}

func compact(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode as the previous version: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, loose); err != nil {
		return nil, fmt.Errorf("encode as the previous version: %w", err)
	}
	return b.Bytes(), nil
}

// newWord reports whether a field that d knows as an enum is in value and was not understood.
func newWord(value, known []byte, d protoreflect.MessageDescriptor) bool {
	var all, kept map[string]json.RawMessage
	if json.Unmarshal(value, &all) != nil || json.Unmarshal(known, &kept) != nil {
		return false
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		raw, there := all[f.JSONName()]
		if !there {
			continue
		}
		switch {
		case f.Enum() != nil && !f.IsList() && !f.IsMap():
			if _, ok := kept[f.JSONName()]; !ok && !strings.HasSuffix(strings.Trim(string(raw), `"`), "_UNSPECIFIED") {
				return true
			}
		case f.Message() != nil && !f.IsList() && !f.IsMap():
			if newWord(raw, kept[f.JSONName()], f.Message()) {
				return true
			}
		}
	}
	return false
}
