package definition

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/local"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Namespace and Prefix of Holdfast's element in a domain's <metadata>. docs/facts.md describes it for other tools.
const (
	Namespace = "https://github.com/holdfast-ha/holdfast/domain/1"
	Prefix    = "holdfast"
)

// MarkerXML is the marker as libvirt's metadata calls take it: an element without namespace.
func MarkerXML(m local.Marker) string { return markerNode("vm", m).String() }

func markerNode(name string, m local.Marker) *node {
	n := &node{name: name, attrs: []attr{
		{"pool", m.Pool}, {"incarnation", m.Incarnation}, {"name", string(m.VM)},
		{"epoch", strconv.FormatInt(int64(m.Epoch), 10)},
	}}
	if m.Operation != "" {
		n.set("operation", string(m.Operation))
	}
	if m.Started {
		n.set("started", "yes")
	}
	return n
}

// ParseMarker reads what MarkerXML wrote, also as part of a definition (with prefix and namespace).
func ParseMarker(text string) (local.Marker, error) {
	n, err := parseTree(text)
	if err != nil {
		return local.Marker{}, err
	}
	return readMarker(n)
}

func readMarker(n *node) (local.Marker, error) {
	epoch, err := strconv.ParseInt(n.get("epoch"), 10, 64)
	if err != nil || n.local() != "vm" || n.get("pool") == "" || n.get("name") == "" {
		return local.Marker{}, fmt.Errorf("marker in metadata cannot be read: %.200q: %w", strings.TrimSpace(n.String()), pool.ErrInvalid)
	}
	return local.Marker{
		Pool: n.get("pool"), Incarnation: n.get("incarnation"), VM: pool.VMID(n.get("name")), Epoch: pool.Epoch(epoch),
		Operation: pool.OperationID(n.get("operation")), Started: n.get("started") == "yes",
	}, nil
}

// Marker finds the marker in a whole definition; nil if there is none.
func Marker(text string) (*local.Marker, error) {
	root, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	found := ours(root)
	if len(found) == 0 {
		return nil, nil
	}
	m, err := readMarker(found[0])
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// ours returns Holdfast's elements in the metadata of a domain.
func ours(root *node) []*node {
	var found []*node
	for _, k := range root.all("metadata") {
		for _, e := range k.kids {
			if isOurs(root, k, e) {
				found = append(found, e)
			}
		}
	}
	return found
}

// isOurs resolves the prefix of e against the elements around it.
func isOurs(root, metadata, e *node) bool {
	prefix, _, ok := strings.Cut(e.name, ":")
	decl := "xmlns"
	if ok {
		decl = "xmlns:" + prefix
	}
	for _, scope := range []*node{e, metadata, root} {
		if scope.has(decl) {
			return scope.get(decl) == Namespace
		}
	}
	return false
}
