package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// run executes a program and puts its output into the error.
func run(ctx context.Context, stdin string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// ipBatch runs ip(8) commands, one a line, in the network namespace of pid (0: here).
func ipBatch(ctx context.Context, pid int, lines ...string) error {
	argv := []string{"ip", "-batch", "-"}
	if pid > 0 {
		argv = append([]string{"nsenter", "-t", strconv.Itoa(pid), "-n", "--"}, argv...)
	}
	_, err := run(ctx, strings.Join(lines, "\n")+"\n", argv...)
	return err
}

func linkExists(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name)
	return err == nil
}

// deleteLink removes a link if it is there.
func deleteLink(ctx context.Context, name string) error {
	if !linkExists(name) {
		return nil
	}
	_, err := run(ctx, "", "ip", "link", "del", name)
	if !linkExists(name) {
		return nil // it went by itself, with its namespace
	}
	return err
}

// setLinkDown takes a link down by system call: a power cut must not wait for
// a program to start.
func setLinkDown(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	req.SetUint16(req.Uint16() &^ unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("take link %s down: %w", name, err)
	}
	return nil
}

func (o Options) address(host int) string { return fmt.Sprintf("10.77.%d.%d", o.subnet(), host) }

// makeBridge makes the lab's switch, which is also this machine's way in. Its
// hardware address is given: left to itself a bridge takes the lowest of its
// ports', which changes as servers come and go, and then those that know the
// old one reach this machine no more until they ask again.
func (o Options) makeBridge(ctx context.Context) error {
	br := o.bridge()
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range taken {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.String() == o.address(1) {
			return fmt.Errorf("another lab, or something else, has this lab's network %s: choose another lab name than %q", ip, o.Name)
		}
	}
	return ipBatch(ctx, 0,
		"link add "+br+fmt.Sprintf(" address 02:68:66:%02x:00:00", o.subnet())+" type bridge forward_delay 0 stp_state 0",
		"addr add "+o.address(1)+"/24 dev "+br,
		"link set "+br+" up")
}

// plugIn gives server n, whose first process is pid, its link. The hardware
// address stays the same over power cuts, as it does on a real server.
func (o Options) plugIn(ctx context.Context, n, pid int) error {
	link := o.link(n)
	if err := deleteLink(ctx, link); err != nil {
		return err
	}
	mac := fmt.Sprintf("02:68:66:%02x:00:%02x", o.subnet(), n)
	if err := ipBatch(ctx, 0,
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %d", link, mac, pid),
		"link set "+link+" master "+o.bridge()+" up"); err != nil {
		return err
	}
	if err := ipBatch(ctx, pid,
		"link set lo up",
		"addr add "+o.address(10+n)+"/24 dev eth0",
		"link set eth0 up",
		"route add default via "+o.address(1)); err != nil {
		return err
	}
	// The switch opens its port a moment after the carrier came up. A cut that is
	// made before would be undone by that.
	ready, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return waitFor(ready, time.Millisecond, func() (bool, error) {
		state, err := os.ReadFile("/sys/class/net/" + link + "/brport/state")
		return strings.TrimSpace(string(state)) == portForwarding, err
	})
}

// Port states of a Linux bridge (linux/if_bridge.h, BR_STATE). A disabled port
// swallows everything and leaves the carrier up, so that the server itself is
// told nothing.
const (
	portDisabled   = "0"
	portForwarding = "3"
)

// setPort opens or closes server n's port on the lab's switch.
func (o Options) setPort(ctx context.Context, n int, state string) error {
	_, err := run(ctx, "", "bridge", "link", "set", "dev", o.link(n), "state", state)
	return err
}

// limitLink bounds what server n receives over the lab's network, until it loses power. rate is in tc's words (tc(8), UNITS).
func (o Options) limitLink(ctx context.Context, n int, rate string) error {
	// The queue holds 50 ms, as a switch's port does, and a burst what comes between two ticks of the kernel at 1 Gbit/s.
	_, err := run(ctx, "", "tc", "qdisc", "replace", "dev", o.link(n), "root", "tbf", "rate", rate, "burst", "512k", "latency", "50ms")
	return err
}
