package definition

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Clean turns the XML that libvirt shows of a running domain (virsh dumpxml, security parts included) into a
// definition that can be registered: runtime parts go, guest hardware stays as it is, addresses too.
// A definition that never ran comes back as it was, but for its layout.
func Clean(text string) (string, error) {
	root, err := parseDomain(text)
	if err != nil {
		return "", err
	}
	clean(root)
	unmark(root)
	return root.String(), nil
}

// Register makes an operator's definition fit to be registered: cleaned, with the UUID and the MAC addresses that
// it leaves open, so that the guest finds the same machine at every start. newUUID is called if there is no UUID.
func Register(text string, newUUID func() string) (string, *Definition, error) {
	root, err := parseDomain(text)
	if err != nil {
		return "", nil, err
	}
	clean(root)
	unmark(root)
	if root.word("uuid") == "" {
		root.ensure("uuid").setText(newUUID())
	}
	fillMACs(root)
	d, err := read(root)
	if err != nil {
		return "", nil, err
	}
	return root.String(), d, nil
}

// fillMACs gives interfaces without a MAC address one in QEMU's range, derived from the VM's UUID.
func fillMACs(root *node) {
	for i, n := range root.all("devices/interface") {
		if n.at("mac").get("address") != "" {
			continue
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", strings.ToLower(root.word("uuid")), i))
		n.ensure("mac").set("address", fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2]))
	}
}

// WithCPUOf returns live with the <cpu> of stored: libvirt shows a running domain's host-model as the model that
// its server happens to have.
func WithCPUOf(live, stored string) (string, error) {
	l, err := parseDomain(live)
	if err != nil {
		return "", err
	}
	s, err := parseDomain(stored)
	if err != nil {
		return "", err
	}
	for i, k := range l.kids {
		if k.name != "cpu" {
			continue
		}
		if cpu := s.at("cpu"); cpu != nil {
			l.kids[i] = cpu
		} else {
			l.dropNamed("cpu")
		}
		break
	}
	return l.String(), nil
}

// Prefixes of names and paths that libvirt makes up at each start, and drops from a stored definition.
var (
	autoDevices  = []string{"vnet", "macvtap", "macvlan", "vif"}
	autoChannels = []string{"/var/lib/libvirt/qemu/channel/", "/run/libvirt/qemu/channel/", "/var/run/libvirt/qemu/channel/"}
)

// clean removes what belongs to one run of a domain. It never touches an operator's own words: libvirt's user
// aliases begin with "ua-".
func clean(root *node) {
	live := root.has("id")
	root.unset("id")
	root.drop(func(k *node) bool { return k.name == "seclabel" && !ownLabel(k) })
	for _, s := range root.all("seclabel") {
		if s.get("type") == "dynamic" {
			s.dropNamed("label")
			s.dropNamed("imagelabel")
		}
	}
	root.each(func(n *node) {
		n.drop(func(k *node) bool {
			return k.name == "alias" && !strings.HasPrefix(k.get("name"), "ua-") && len(k.kids) == 0
		})
	})
	for _, devices := range root.all("devices") {
		for _, n := range devices.kids {
			cleanDevice(n, live)
		}
	}
	for _, b := range root.all("os/bootmenu") {
		b.unset("runtime")
	}
}

// ownLabel tells an operator's security label from one that libvirt made for this run.
func ownLabel(s *node) bool {
	switch s.get("type") {
	case "static", "none":
		return true
	case "dynamic":
		return s.at("baselabel") != nil
	}
	return len(s.kids) == 0 // e.g. only relabel='no'
}

func cleanDevice(n *node, live bool) {
	switch n.name {
	case "disk":
		cleanDisk(n, live)
	case "interface":
		for _, t := range n.all("target") {
			if hasPrefix(t.get("dev"), autoDevices) {
				t.unset("dev")
			}
		}
		n.drop(func(k *node) bool { return k.name == "target" && len(k.attrs) == 0 && len(k.kids) == 0 })
		if n.get("type") == "network" {
			for _, s := range n.all("source") {
				s.unset("portid", "bridge")
			}
		}
	case "console", "serial", "channel", "parallel", "redirdev":
		cleanCharacter(n)
	case "graphics":
		if n.get("autoport") == "yes" {
			n.unset("tlsPort")
			if n.has("port") {
				n.set("port", "-1")
			}
			if n.has("websocketGenerated") {
				n.unset("websocket", "websocketGenerated")
			}
		}
	case "hostdev":
		for _, s := range n.all("source") {
			s.unset("index")
		}
	}
}

func cleanDisk(n *node, live bool) {
	for _, s := range n.all("source") {
		s.unset("index")
		s.dropNamed("privateData")
	}
	// Of a running domain libvirt shows the chain that it found in the images; the images say it again at the
	// next start. A chain in a stored definition is the operator's own word.
	if live {
		n.dropNamed("backingStore")
	}
	n.dropNamed("privateData")
}

func cleanCharacter(n *node) {
	n.unset("tty")
	for _, t := range n.all("target") {
		t.unset("state")
	}
	n.drop(func(k *node) bool {
		if k.name != "source" {
			return false
		}
		switch n.get("type") {
		case "pty":
			return true
		case "unix":
			return hasPrefix(k.get("path"), autoChannels)
		}
		return false
	})
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
