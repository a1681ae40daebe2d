package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-ha/holdfast/console/cli/text"
)

// format is the value of -o.
type format string

// Formats.
const (
	formatTable format = "table"
	formatWide  format = "wide"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

var formats = []string{string(formatTable), string(formatWide), string(formatJSON), string(formatYAML)}

// String, Set and Type make it a flag.
func (f *format) String() string { return string(*f) }

// Set accepts one of formats.
func (f *format) Set(s string) error {
	for _, known := range formats {
		if s == known {
			*f = format(s)
			return nil
		}
	}
	return fmt.Errorf("write one of %s", strings.Join(formats, ", "))
}

// Type is shown in help.
func (f *format) Type() string { return strings.Join(formats, "|") }

// forScripts reports whether the format is one that programs read.
func (f format) forScripts() bool { return f == formatJSON || f == formatYAML }

// writeMessage prints an API message in full, fields with their zero values included.
func writeMessage(w io.Writer, f format, m proto.Message) error {
	data, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	if f == formatYAML {
		return writeYAML(w, data)
	}
	// protojson varies its white space on purpose; indenting makes it the same again.
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	_, err = fmt.Fprintln(w, escape(b.String(), formatJSON))
	return err
}

// writeChange prints one message of a stream: one line of JSON, or one YAML document, without empty fields.
func writeChange(w io.Writer, f format, m proto.Message) error {
	data, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	if f == formatYAML {
		if _, err := fmt.Fprintln(w, "---"); err != nil {
			return err
		}
		return writeYAML(w, data)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return fmt.Errorf("print as json: %w", err)
	}
	_, err = fmt.Fprintln(w, escape(b.String(), formatJSON))
	return err
}

// writeYAML prints JSON as YAML in block style, keys in the same order.
func writeYAML(w io.Writer, data []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("print as yaml: %w", err)
	}
	plainStyle(&doc)
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("print as yaml: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("print as yaml: %w", err)
	}
	_, err := io.WriteString(w, escape(b.String(), formatYAML))
	return err
}

// plainStyle drops the quotes and braces of JSON where YAML needs none. A text with harmful characters keeps its
// quotes, so that escape can name them.
func plainStyle(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && strings.ContainsFunc(n.Value, harmful) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		plainStyle(c)
	}
}

func harmful(r rune) bool { return r != '\n' && text.Harmful(r) }

// escape names the characters that could disturb a terminal, which stand only inside quoted texts here: nothing is
// lost, as both formats read the name back as the character.
func escape(s string, f format) string {
	if !strings.ContainsFunc(s, harmful) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !harmful(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, "\\u%04x", r)
		case f == formatYAML:
			fmt.Fprintf(&b, "\\U%08x", r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", high, low)
		}
	}
	return b.String()
}
