package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab/inside"
)

// statusOff is the exit status that means "off" (FenceAgentAPI.md).
const statusOff = 2

func main() {
	options, err := read(os.Args[1:], os.Stdin)
	if err != nil {
		fail(err)
	}
	state, err := act(options)
	if err != nil {
		fail(err)
	}
	if state != "" {
		fmt.Println(state)
	}
	if options["action"] == "status" && state == "off" {
		os.Exit(statusOff)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "fence_lab:", err)
	os.Exit(1)
}

// read collects the options; those on the command line replace standard input.
func read(args []string, in io.Reader) (map[string]string, error) {
	options := map[string]string{"action": "reboot", "ipport": strconv.Itoa(inside.BMCPort)}
	for _, a := range args {
		key, value, ok := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if !ok {
			return nil, fmt.Errorf("argument %q: want --key=value", a)
		}
		options[key] = value
	}
	if len(args) > 0 {
		return options, nil
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %q: want key=value", line)
		}
		options[key] = value
	}
	if p := options["port"]; options["plug"] == "" && p != "" {
		options["plug"] = p // the older name
	}
	return options, lines.Err()
}

func act(o map[string]string) (string, error) {
	switch o["action"] {
	case "metadata":
		return metadata, nil
	case "status", "monitor":
		return ask(o, http.MethodGet, "")
	case "off", "on":
		return ask(o, http.MethodPost, o["action"])
	case "reboot":
		if _, err := ask(o, http.MethodPost, "off"); err != nil {
			return "", err
		}
		return ask(o, http.MethodPost, "on")
	}
	return "", fmt.Errorf("action %q is unknown", o["action"])
}

func ask(o map[string]string, method, action string) (string, error) {
	if o["plug"] == "" {
		return "", errors.New("no plug given: which server?")
	}
	ip := o["ip"]
	if ip == "" {
		var err error
		if ip, err = gateway(); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(ip, o["ipport"]), Path: "/power/" + o["plug"], RawQuery: url.Values{"action": {action}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, text)
	}
	return text, nil
}

// gateway is the first address of a lab's subnet, where this machine's only
// network card has its address.
func gateway() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			ip := n.IP.Mask(n.Mask).To4()
			ip[3]++
			return ip.String(), nil
		}
	}
	return "", errors.New("no ip given, and no network here")
}

const metadata = `<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Power switches of the lab's servers">
  <parameters>
    <parameter name="action" required="1"><content type="string" default="reboot"/></parameter>
    <parameter name="plug" required="1"><content type="string"/></parameter>
    <parameter name="ip" required="0"><content type="string"/></parameter>
    <parameter name="ipport" required="0"><content type="integer" default="7623"/></parameter>
  </parameters>
  <actions>
    <action name="on"/><action name="off"/><action name="reboot"/>
    <action name="status"/><action name="monitor"/><action name="metadata"/>
  </actions>
</resource-agent>`
