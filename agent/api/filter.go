package api

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// maxFilter bounds a filter, in bytes.
const maxFilter = 1000

// filter is a list of conditions that must all hold. docs/api.md, "Lists".
type filter []condition

// condition compares one field of an item: FIELD=PATTERN or FIELD!=PATTERN.
type condition struct {
	path    []protoreflect.FieldDescriptor
	pattern string
	not     bool
}

// parseFilter reads `FIELD=VALUE FIELD!=VALUE ...` for items of that type. Its error is pool.ErrInvalid.
func parseFilter(text string, item protoreflect.MessageDescriptor) (filter, error) {
	if len(text) > maxFilter {
		return nil, fmt.Errorf("filter: %d bytes; at most %d: %w", len(text), maxFilter, pool.ErrInvalid)
	}
	var f filter
	for _, term := range strings.Fields(text) {
		field, value, ok := strings.Cut(term, "=")
		if !ok || field == "" || field == "!" {
			return nil, fmt.Errorf("filter %q: write FIELD=VALUE or FIELD!=VALUE: %w", clean(term), pool.ErrInvalid)
		}
		field, not := strings.CutSuffix(field, "!")
		names, err := fieldPath(field, item)
		if err != nil {
			return nil, err
		}
		if last := names[len(names)-1]; last.Message() != nil {
			return nil, fmt.Errorf("filter %q: %s is no single value; name a field in it: %w", clean(term), field, pool.ErrInvalid)
		}
		f = append(f, condition{names, strings.ToLower(value), not})
	}
	return f, nil
}

// fieldPath finds the fields that a dotted path names, in either spelling of the API.
func fieldPath(text string, d protoreflect.MessageDescriptor) ([]protoreflect.FieldDescriptor, error) {
	var out []protoreflect.FieldDescriptor
	for _, name := range strings.Split(text, ".") {
		if d == nil {
			return nil, fmt.Errorf("%q: there is nothing below %s: %w", clean(text), out[len(out)-1].Name(), pool.ErrInvalid)
		}
		f := d.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			f = d.Fields().ByJSONName(name)
		}
		if f == nil {
			return nil, fmt.Errorf("no field %q; %s has %s: %w", clean(text), d.Name(), fieldNames(d), pool.ErrInvalid)
		}
		out = append(out, f)
		if d = nil; f.Message() != nil && !f.IsMap() {
			d = f.Message()
		}
	}
	return out, nil
}

func fieldNames(d protoreflect.MessageDescriptor) string {
	var names []string
	for i := range d.Fields().Len() {
		names = append(names, string(d.Fields().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}

func (f filter) matches(item protoreflect.Message) bool {
	for _, c := range f {
		if c.holds(item, c.path) == c.not {
			return false
		}
	}
	return true
}

// holds reports whether a value at the path has the pattern; of a list, whether one of its items has.
func (c condition) holds(m protoreflect.Message, names []protoreflect.FieldDescriptor) bool {
	f, v := names[0], m.Get(names[0])
	if f.IsMap() {
		return false
	}
	if !f.IsList() {
		return c.one(f, v, names[1:])
	}
	for i := range v.List().Len() {
		if c.one(f, v.List().Get(i), names[1:]) {
			return true
		}
	}
	return v.List().Len() == 0 && len(names) == 1 && c.pattern == ""
}

func (c condition) one(f protoreflect.FieldDescriptor, v protoreflect.Value, rest []protoreflect.FieldDescriptor) bool {
	if len(rest) > 0 {
		return c.holds(v.Message(), rest)
	}
	for _, word := range wordsOf(f, v) {
		if like(c.pattern, word) {
			return true
		}
	}
	return false
}

// like reports whether word has the pattern, in which "*" stands for anything.
func like(pattern, word string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return word == pattern
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(word, first) {
		return false
	}
	word = word[len(first):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(word, part)
		if i < 0 {
			return false
		}
		word = word[i+len(part):]
	}
	return strings.HasSuffix(word, last)
}

// wordsOf are the ways to write a value: of an enum its full name, and the end that tells it from its siblings.
func wordsOf(f protoreflect.FieldDescriptor, v protoreflect.Value) []string {
	if f.Kind() != protoreflect.EnumKind {
		return []string{strings.ToLower(v.String())}
	}
	value := f.Enum().Values().ByNumber(v.Enum())
	if value == nil {
		return []string{strconv.Itoa(int(v.Enum()))}
	}
	full := string(value.Name())
	zero, _ := strings.CutSuffix(string(f.Enum().Values().Get(0).Name()), "UNSPECIFIED")
	return []string{strings.ToLower(full), strings.ToLower(strings.TrimPrefix(full, zero))}
}
