package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Strict decodes one YAML document into the struct that into points to, over the values already there. Every key
// must be known and given once; durations need a unit. Errors name the line and are pool.ErrInvalid.
func Strict(data []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || (err == nil && len(doc.Content) == 0) {
		return fmt.Errorf("the file is empty: %w", pool.ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(err.Error(), "yaml: "), pool.ErrInvalid)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the file must hold one document only: %w", pool.ErrInvalid)
	}
	typ := reflect.TypeOf(into).Elem()
	c := checker{known: paths(typ, "")}
	if err := c.check(doc.Content[0], typ, ""); err != nil {
		return err
	}
	if err := doc.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(err.Error(), "yaml: "), pool.ErrInvalid)
	}
	return nil
}

// checker walks a document beside the type that it is decoded into.
type checker struct{ known []string }

var durationType = reflect.TypeFor[time.Duration]()

func (c checker) check(n *yaml.Node, t reflect.Type, at string) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case t == durationType:
		return checkDuration(n, at)
	case t.Kind() == reflect.Struct:
		return c.checkStruct(n, t, at)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for _, e := range n.Content {
			if err := c.check(e, t.Elem(), at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c checker) checkStruct(n *yaml.Node, t reflect.Type, at string) error {
	if n.Kind != yaml.MappingNode {
		if at == "" {
			at = "the file"
		}
		return fmt.Errorf("line %d: %s must be a list of `key: value` lines: %w", n.Line, at, pool.ErrInvalid)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		path := join(at, key.Value)
		if first, ok := seen[key.Value]; ok {
			return fmt.Errorf("line %d: key %q is given twice, first in line %d: %w", key.Line, path, first, pool.ErrInvalid)
		}
		seen[key.Value] = key.Line
		field, ok := fieldOf(t, key.Value)
		if !ok {
			return c.unknown(key.Line, path, at)
		}
		if err := c.check(n.Content[i+1], field.Type, path); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) unknown(line int, path, at string) error {
	if near := nearest(path, c.known); near != "" {
		return fmt.Errorf("line %d: unknown key %q; the nearest known key is %q: %w", line, path, near, pool.ErrInvalid)
	}
	where := "the file's top level"
	if at != "" {
		where = at
	}
	return fmt.Errorf("line %d: unknown key %q; %s knows %s: %w", line, path, where, strings.Join(below(c.known, at), ", "), pool.ErrInvalid)
}

func checkDuration(n *yaml.Node, at string) error {
	if _, err := time.ParseDuration(n.Value); err != nil || n.Value == "0" {
		return fmt.Errorf("line %d: %s %q: write a duration with its unit, such as 50ms, 10s or 1h: %w", n.Line, at, n.Value, pool.ErrInvalid)
	}
	return nil
}

// paths lists every key of a struct type, dotted, in the order of the fields.
func paths(t reflect.Type, at string) []string {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == durationType {
		return nil
	}
	var all []string
	for i := range t.NumField() {
		p := join(at, keyOf(t.Field(i)))
		all = append(append(all, p), paths(t.Field(i).Type, p)...)
	}
	return all
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); keyOf(f) == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// below lists the last words of the keys directly in section at.
func below(known []string, at string) []string {
	var out []string
	for _, p := range known {
		dir, last := "", p
		if i := strings.LastIndexByte(p, '.'); i >= 0 {
			dir, last = p[:i], p[i+1:]
		}
		if dir == at {
			out = append(out, last)
		}
	}
	return out
}

// Keys lists every key of a server's settings, dotted, sections included.
func Keys() []string { return paths(reflect.TypeFor[Config](), "") }
