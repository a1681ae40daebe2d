package definition

import (
	"fmt"
	"regexp"
	"strings"
)

// passwordRE finds passwords in arguments that a definition passes to QEMU itself.
var passwordRE = regexp.MustCompile(`(?i)(^|[,"{ ])"?(password|passwd|data)"?\s*[=:]`)

// TakeSecrets returns the definition without passwords, and the passwords by where they belong. PutSecrets is its
// reverse. Passwords are kept in a key of their own that watchers of the pool do not see. What stays behind is empty,
// and shuts rather than opens: a display with an empty password admits nobody, and an empty argument starts nothing.
func TakeSecrets(text string) (string, map[string]string, error) {
	taken := map[string]string{}
	root, err := secretPlaces(text, func(place, value string, set func(string)) {
		if value != "" {
			taken[place] = value
			set("")
		}
	})
	if err != nil {
		return "", nil, err
	}
	return root.String(), taken, nil
}

// PutSecrets puts back what TakeSecrets took, where the definition is still empty.
func PutSecrets(text string, secrets map[string]string) (string, error) {
	if len(secrets) == 0 {
		return text, nil
	}
	root, err := secretPlaces(text, func(place, value string, set func(string)) {
		if v, ok := secrets[place]; ok && value == "" {
			set(v)
		}
	})
	if err != nil {
		return "", err
	}
	return root.String(), nil
}

// LacksSecrets reports whether a definition has a place for a password that is empty.
func LacksSecrets(text string) (bool, error) {
	lacks := false
	_, err := secretPlaces(text, func(_, value string, _ func(string)) { lacks = lacks || value == "" })
	return lacks, err
}

// secretPlaces visits every place where a password is, or was, named like "graphics/vnc/0/passwd". They are what
// libvirt shows only with VIR_DOMAIN_XML_SECURE, and arguments for QEMU.
func secretPlaces(text string, visit func(place, value string, set func(string))) (*node, error) {
	root, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	for i, g := range root.all("devices/graphics") {
		if g.has("passwd") {
			place := strings.ToLower(fmt.Sprintf("graphics/%s/%d/passwd", g.get("type"), i))
			visit(place, g.get("passwd"), func(v string) { g.set("passwd", v) })
		}
	}
	for _, disk := range root.all("devices/disk") {
		for _, c := range disk.all("source/cookies/cookie") {
			visit("disk/"+disk.at("target").get("dev")+"/cookie/"+c.get("name"), c.text, c.setText)
		}
	}
	for _, top := range root.kids {
		if top.local() != "commandline" {
			continue
		}
		for i, a := range top.kids {
			if v := a.get("value"); a.local() == "arg" && (v == "" || passwordRE.MatchString(v)) {
				visit(fmt.Sprintf("qemu/argument/%d", i), v, func(v string) { a.set("value", v) })
			}
		}
	}
	return root, nil
}
