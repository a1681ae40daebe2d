package definition

import "github.com/holdfast-ha/holdfast/agent/local"

// Arriving returns a running domain's definition as the destination of a migration makes its copy from it: the same
// machine in every detail, with the marker of the copy. text is libvirt's migratable XML.
func Arriving(text string, m local.Marker) (string, error) {
	root, err := parseDomain(text)
	if err != nil {
		return "", err
	}
	mark(root, m)
	return root.String(), nil
}
