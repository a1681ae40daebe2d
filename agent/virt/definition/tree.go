package definition

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Limits on a definition. Real ones are 3 to 30 KiB and eight levels deep; libvirt itself stops at 10 MiB.
const (
	MaxBytes = 1 << 20
	maxDepth = 64
)

// node is one element. Names keep their prefix as written ("qemu:arg"); namespaces are plain attributes.
type node struct {
	name  string
	attrs []attr
	kids  []*node
	// text is all character data directly inside, for elements without children.
	text string
	// mixed holds the order of text and children where an element has both; only free-form metadata does.
	mixed []any
}

type attr struct{ name, value string }

// parseTree reads one element and everything in it.
func parseTree(text string) (*node, error) {
	if len(text) > MaxBytes {
		return nil, invalid("it is %d bytes long, the limit is %d", len(text), MaxBytes)
	}
	if !utf8.ValidString(text) {
		return nil, invalid("it is not UTF-8 text")
	}
	d := xml.NewDecoder(strings.NewReader(text))
	var root *node
	var open []*node
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, invalid("%v", err)
		}
		if root, open, err = take(root, open, tok); err != nil {
			return nil, err
		}
	}
	switch {
	case root == nil:
		return nil, invalid("there is no element in it")
	case len(open) > 0:
		return nil, invalid("<%s> is not closed", open[len(open)-1].name)
	}
	root.settle()
	return root, nil
}

// take adds one token to the tree. open is the path from the root to the innermost open element.
func take(root *node, open []*node, tok xml.Token) (*node, []*node, error) {
	switch t := tok.(type) {
	case xml.Directive:
		return root, open, invalid("document types and entities are not accepted")
	case xml.StartElement:
		n, err := element(t)
		if err != nil {
			return root, open, err
		}
		switch {
		case len(open) == 0 && root != nil:
			return root, open, invalid("<%s> follows the end of <%s>", n.name, root.name)
		case len(open) >= maxDepth:
			return root, open, invalid("elements are nested deeper than %d", maxDepth)
		case len(open) == 0:
			root = n
		default:
			up := open[len(open)-1]
			up.kids = append(up.kids, n)
			up.mixed = append(up.mixed, n)
		}
		open = append(open, n)
	case xml.EndElement:
		if len(open) == 0 || open[len(open)-1].name != rawName(t.Name) {
			return root, open, invalid("</%s> closes nothing", rawName(t.Name))
		}
		open = open[:len(open)-1]
	case xml.CharData:
		if len(open) > 0 {
			up := open[len(open)-1]
			up.mixed = append(up.mixed, string(t))
		} else if strings.TrimSpace(string(t)) != "" {
			return root, open, invalid("text outside of the outermost element")
		}
	}
	return root, open, nil
}

func element(t xml.StartElement) (*node, error) {
	n := &node{name: rawName(t.Name)}
	for _, a := range t.Attr {
		name := rawName(a.Name)
		if n.has(name) {
			return nil, invalid("attribute %s occurs twice in <%s>", name, n.name)
		}
		n.attrs = append(n.attrs, attr{name, a.Value})
	}
	return n, nil
}

func rawName(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// settle turns collected character data into text, and forgets white space between elements.
func (n *node) settle() {
	var text strings.Builder
	for _, part := range n.mixed {
		if s, ok := part.(string); ok {
			text.WriteString(s)
		}
	}
	if len(n.kids) == 0 {
		n.text = text.String()
		n.mixed = nil
	} else if strings.TrimSpace(text.String()) == "" {
		n.mixed = nil
	}
	for _, k := range n.kids {
		k.settle()
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("domain XML: %s: %w", fmt.Sprintf(format, args...), pool.ErrInvalid)
}

var (
	textEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;")
	attrEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", "\"", "&quot;",
		"\r", "&#13;", "\n", "&#10;", "\t", "&#9;")
)

// String renders the tree, two spaces a level, as libvirt does.
func (n *node) String() string {
	var b strings.Builder
	n.render(&b, 0, true)
	return b.String()
}

func (n *node) render(b *strings.Builder, depth int, pretty bool) {
	indent := func(d int) {
		if pretty {
			b.WriteString(strings.Repeat("  ", d))
		}
	}
	indent(depth)
	b.WriteString("<" + n.name)
	for _, a := range n.attrs {
		b.WriteString(" " + a.name + "='" + attrEscape.Replace(a.value) + "'")
	}
	switch {
	case len(n.mixed) > 0:
		b.WriteString(">")
		for _, part := range n.mixed {
			switch p := part.(type) {
			case string:
				b.WriteString(textEscape.Replace(p))
			case *node:
				p.render(b, 0, false)
			}
		}
		b.WriteString("</" + n.name + ">")
	case len(n.kids) > 0:
		b.WriteString(">")
		if pretty {
			b.WriteString("\n")
		}
		for _, k := range n.kids {
			k.render(b, depth+1, pretty)
		}
		indent(depth)
		b.WriteString("</" + n.name + ">")
	case n.text != "":
		b.WriteString(">" + textEscape.Replace(n.text) + "</" + n.name + ">")
	default:
		b.WriteString("/>")
	}
	if pretty {
		b.WriteString("\n")
	}
}
