package fence

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// defaultTimeout bounds one run of a program whose device names no time-out. The programs' own defaults add up to
// 28 s: login 5 s, prompt 3 s, power 20 s (lib/fencing.py.py).
const defaultTimeout = 30 * time.Second

// maxSecret bounds a secret, in bytes.
const maxSecret = 4096

// device is one power switch with a name for people, and the server it belongs to.
type device struct {
	pool.FenceDevice
	server pool.ServerID
	name   string
	// number counts the devices of a server from 0.
	number int
}

// unusable is an error that trying again at once does not mend.
type unusable struct{ error }

// Unwrap gives the cause.
func (u *unusable) Unwrap() error { return u.error }

// devicesOf checks and names the devices of a server. A server without any is an error: "all of none are off" proves
// nothing.
func devicesOf(server pool.Server) ([]device, error) {
	if len(server.Fence) == 0 {
		return nil, fmt.Errorf("%s has no fence device: %w", server.ID, pool.ErrInvalid)
	}
	if err := pool.CheckFence(server.Fence); err != nil {
		return nil, fmt.Errorf("fence devices of %s: %w", server.ID, err)
	}
	var out []device
	for i, d := range server.Fence {
		name := d.Agent
		if len(server.Fence) > 1 {
			name = fmt.Sprintf("%s #%d", d.Agent, i+1)
		}
		if d.Timeout == 0 {
			d.Timeout = defaultTimeout
		}
		out = append(out, device{d, server.ID, name, i})
	}
	return out, nil
}

// sentence is the evidence that all devices are off.
func sentence(devices []device) string {
	names := make([]string, len(devices))
	for i, d := range devices {
		names[i] = d.name
	}
	verb := "report"
	if len(names) == 1 {
		verb = "reports"
	}
	last := len(names) - 1
	list := strings.Join(names[:last], ", ")
	if last > 0 {
		list += " and "
	}
	return list + names[last] + " " + verb + " off, verified twice"
}

// find returns the path of a device's program.
func (f *Fencer) find(d device) (string, error) {
	for _, dir := range f.Dir {
		path := filepath.Join(dir, d.Agent)
		info, err := os.Stat(path)
		switch {
		case os.IsNotExist(err):
			continue
		case err != nil:
			return "", &unusable{fmt.Errorf("find %s: %w", d.Agent, err)}
		case !info.Mode().IsRegular():
			return "", &unusable{fmt.Errorf("%s is not a file", path)}
		case info.Mode().Perm()&0o111 == 0:
			return "", &unusable{fmt.Errorf("%s is not executable", path)}
		case info.Mode().Perm()&0o002 != 0:
			return "", &unusable{fmt.Errorf("%s can be written by everybody (mode %04o), so it is not run; chmod o-w it and see who changed it", path, info.Mode().Perm())}
		}
		return path, nil
	}
	return "", &unusable{fmt.Errorf("program %s is not installed on this server (looked in %s): install the package fence-agents, or the one named like %s",
		d.Agent, strings.Join(f.Dir, ", "), "fence-agents-"+strings.TrimPrefix(d.Agent, "fence_"))}
}

// input is what goes to a program's standard input, and the secrets in it.
func (f *Fencer) input(d device, action string) (text string, secrets []string, err error) {
	lines := []string{"action=" + action}
	for _, key := range sortedKeys(d.Params) {
		lines = append(lines, key+"="+d.Params[key])
	}
	for _, key := range sortedKeys(d.SecretFiles) {
		secret, err := f.secret(d, d.SecretFiles[key])
		if err != nil {
			return "", nil, &unusable{fmt.Errorf("%s: read %s: %w", d.name, key, err)}
		}
		lines, secrets = append(lines, key+"="+secret), append(secrets, secret)
	}
	return strings.Join(lines, "\n") + "\n", secrets, nil
}

// secret reads a file of one line. No error quotes what is in it.
func (f *Fencer) secret(d device, path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecret {
		return "", fmt.Errorf("%s must be a file of at most %d bytes", path, maxSecret)
	}
	if info.Mode().Perm()&0o077 != 0 {
		f.Log.Warn("a secret of a fence device can be read by others than its owner; chmod 0600 it", "server", d.server, "device", d.name, "path", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" || len(text) > maxSecret || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", fmt.Errorf("%s must hold one line without control characters", path)
	}
	return text, nil
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
