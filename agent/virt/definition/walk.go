package definition

import (
	"slices"
	"strings"
)

// get returns an attribute's value, "" if it is absent.
func (n *node) get(name string) string {
	if n == nil {
		return ""
	}
	for _, a := range n.attrs {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

func (n *node) has(name string) bool {
	return slices.ContainsFunc(n.attrs, func(a attr) bool { return a.name == name })
}

func (n *node) set(name, value string) {
	for i := range n.attrs {
		if n.attrs[i].name == name {
			n.attrs[i].value = value
			return
		}
	}
	n.attrs = append(n.attrs, attr{name, value})
}

func (n *node) unset(names ...string) {
	n.attrs = slices.DeleteFunc(n.attrs, func(a attr) bool { return slices.Contains(names, a.name) })
}

// all returns the elements at a path such as "devices/disk", through every element of each name, as an XPath
// expression would.
func (n *node) all(path string) []*node {
	if n == nil {
		return nil
	}
	found := []*node{n}
	for step := range strings.SplitSeq(path, "/") {
		var next []*node
		for _, f := range found {
			for _, k := range f.kids {
				if k.name == step {
					next = append(next, k)
				}
			}
		}
		found = next
	}
	return found
}

// at returns the first element at a path, or nil.
func (n *node) at(path string) *node {
	if all := n.all(path); len(all) > 0 {
		return all[0]
	}
	return nil
}

// word returns the trimmed text of the first element at a path.
func (n *node) word(path string) string {
	if e := n.at(path); e != nil {
		return strings.TrimSpace(e.text)
	}
	return ""
}

// local returns the name without its prefix.
func (n *node) local() string {
	_, after, ok := strings.Cut(n.name, ":")
	if !ok {
		return n.name
	}
	return after
}

// drop removes the direct children that match.
func (n *node) drop(match func(*node) bool) (dropped int) {
	if n == nil {
		return 0
	}
	before := len(n.kids)
	n.kids = slices.DeleteFunc(n.kids, match)
	n.mixed = slices.DeleteFunc(n.mixed, func(p any) bool {
		k, ok := p.(*node)
		return ok && !slices.Contains(n.kids, k)
	})
	return before - len(n.kids)
}

// dropNamed removes the direct children of the given name.
func (n *node) dropNamed(name string) int {
	return n.drop(func(k *node) bool { return k.name == name })
}

// add appends a child.
func (n *node) add(k *node) {
	n.kids = append(n.kids, k)
	if len(n.mixed) > 0 {
		n.mixed = append(n.mixed, k)
	}
}

// ensure returns the direct child of that name; it makes one if there is none.
func (n *node) ensure(name string) *node {
	if k := n.at(name); k != nil {
		return k
	}
	k := &node{name: name}
	n.add(k)
	return k
}

// setText makes an element hold just text.
func (n *node) setText(text string) {
	n.kids, n.mixed, n.text = nil, nil, text
}

// each calls f for n and everything below it.
func (n *node) each(f func(*node)) {
	f(n)
	for _, k := range n.kids {
		k.each(f)
	}
}
