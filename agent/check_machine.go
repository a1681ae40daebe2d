package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-ha/holdfast/agent/check"
	"github.com/holdfast-ha/holdfast/pkg/config"
)

// lookAtWatchdog says what the device is, and who holds it. Only root sees the processes of others.
func lookAtWatchdog(device, wanted string) check.Watchdog {
	w := check.Watchdog{Wanted: wanted, Device: device}
	if device == "" {
		return w
	}
	name := filepath.Base(device)
	if name == "watchdog" {
		name = "watchdog0"
	}
	if b, err := os.ReadFile(filepath.Join("/sys/class/watchdog", name, "identity")); err == nil {
		w.Identity = strings.TrimSpace(string(b))
	}
	w.Software = strings.Contains(strings.ToLower(w.Identity), "software watchdog")
	w.Owner = holderOf("/proc", "/dev/watchdog", "/dev/"+name)
	return w
}

// holderOf names a process that has one of the files open; empty: none that can be seen.
func holderOf(proc string, files ...string) string {
	fds, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil {
			continue
		}
		for _, f := range files {
			if target == f {
				dir := filepath.Dir(filepath.Dir(fd))
				comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
				return fmt.Sprintf("%s (%s)", strings.TrimSpace(string(comm)), filepath.Base(dir))
			}
		}
	}
	return ""
}

// lookAtPaths finds the interface of the server's address, the links below it, and whether etcd's members are reached
// through another one.
func lookAtPaths(c config.Config) check.Paths {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return check.Paths{Err: err.Error()}
	}
	name, err := interfaceOf(host)
	if err != nil {
		return check.Paths{Err: err.Error()}
	}
	p := check.Paths{Interface: name, Links: linksOf("/sys/class/net", name)}
	for _, url := range c.Etcd.Endpoints {
		hostPort := strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://")
		conn, err := net.Dial("udp", hostPort) // sends nothing; the kernel chooses the way
		if err != nil {
			continue
		}
		local, _, _ := net.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close() // nothing was sent
		if by, err := interfaceOf(local); err == nil && by != name {
			p.Apart = true
		}
	}
	return p
}

// interfaceOf names the interface that carries an address of this machine.
func interfaceOf(host string) (string, error) {
	want, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", fmt.Errorf("address %s: %w", host, err)
	}
	all, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(want.IP) {
				return i.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface here carries the address %s", host)
}

// linksOf lists the links of a bond or team, through bridges and VLANs above it.
func linksOf(sys, name string) []string {
	if b, err := os.ReadFile(filepath.Join(sys, name, "bonding", "slaves")); err == nil {
		return strings.Fields(string(b))
	}
	lower, err := filepath.Glob(filepath.Join(sys, name, "lower_*"))
	if err != nil {
		return nil
	}
	var links []string
	for _, l := range lower {
		below := strings.TrimPrefix(filepath.Base(l), "lower_")
		if strings.HasPrefix(below, "vnet") || strings.HasPrefix(below, "tap") {
			continue // VMs on a bridge
		}
		if deeper := linksOf(sys, below); len(deeper) > 1 {
			return deeper
		}
		links = append(links, below)
	}
	if _, err := os.Stat(filepath.Join(sys, name, "bridge")); err == nil {
		return nil // several ports of a bridge are no second path
	}
	return links
}
