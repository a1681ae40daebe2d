package definition

import (
	"fmt"
	"strings"
)

// passwords are the attributes that libvirt shows only with VIR_DOMAIN_XML_SECURE.
var passwords = []string{"passwd", "passwdValidTo"}

// TakeSecrets returns the definition without passwords, and the passwords by where they belong. PutSecrets is its
// reverse. Passwords are kept in a key of their own that watchers cannot read.
func TakeSecrets(text string) (string, map[string]string, error) {
	taken := map[string]string{}
	root, err := secretPlaces(text, func(place, name string, n *node) {
		if n.has(name) {
			taken[place] = n.get(name)
			n.unset(name)
		}
	})
	if err != nil {
		return "", nil, err
	}
	return root.String(), taken, nil
}

// PutSecrets puts back what TakeSecrets took.
func PutSecrets(text string, secrets map[string]string) (string, error) {
	if len(secrets) == 0 {
		return text, nil
	}
	root, err := secretPlaces(text, func(place, name string, n *node) {
		if v, ok := secrets[place]; ok {
			n.set(name, v)
		}
	})
	if err != nil {
		return "", err
	}
	return root.String(), nil
}

// secretPlaces visits every place where a password may be, named like "graphics/vnc/0/passwd".
func secretPlaces(text string, visit func(place, name string, n *node)) (*node, error) {
	root, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	for i, g := range root.all("devices/graphics") {
		for _, name := range passwords {
			visit(strings.ToLower(fmt.Sprintf("graphics/%s/%d/%s", g.get("type"), i, name)), name, g)
		}
	}
	return root, nil
}
