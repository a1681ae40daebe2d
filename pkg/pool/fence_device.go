package pool

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of what a server may have of fence devices.
const (
	maxFenceDevices = 8
	maxFenceParams  = 64
	maxFenceValue   = 1024
	// maxFenceTimeout leaves the leader, which gives one power-off two minutes, time for a second attempt.
	maxFenceTimeout = time.Minute
)

var (
	fenceAgent = regexp.MustCompile(`^fence_[a-z0-9_]{1,58}$`)
	fenceParam = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)
)

// noFencing names programs of the family that switch nothing off, with what they are.
var noFencing = map[string]string{
	"fence_ack_manual":      "asks a person; holdfast confirm-fenced does that",
	"fence_dummy":           "is for tests and only pretends",
	"fence_heuristics_ping": "only pings",
}

// CheckFence refuses power switches that could not work, or could do harm. The error says what would be right.
func CheckFence(devices []FenceDevice) error {
	if len(devices) > maxFenceDevices {
		return fmt.Errorf("%d power switches; at most %d: %w", len(devices), maxFenceDevices, ErrInvalid)
	}
	for i, d := range devices {
		if err := d.check(); err != nil {
			return fmt.Errorf("power switch %d: %w", i+1, err)
		}
	}
	return nil
}

func (d FenceDevice) check() error {
	if d.Agent == "" {
		return fmt.Errorf("no agent; want a fence program's name, such as fence_ipmilan: %w", ErrInvalid)
	}
	if !fenceAgent.MatchString(d.Agent) {
		return fmt.Errorf("agent %.80q; want a fence program's name without a path, fence_ and then small letters, digits and _, such as fence_ipmilan: %w",
			d.Agent, ErrInvalid)
	}
	if what, ok := noFencing[d.Agent]; ok {
		return fmt.Errorf("%s %s; want one that switches power, such as fence_ipmilan: %w", d.Agent, what, ErrInvalid)
	}
	if d.Timeout < 0 || d.Timeout > maxFenceTimeout {
		return fmt.Errorf("%s: timeout %v; want at most %v, or none for the default: %w", d.Agent, d.Timeout, maxFenceTimeout, ErrInvalid)
	}
	if len(d.Params)+len(d.SecretFiles) > maxFenceParams {
		return fmt.Errorf("%s: %d parameters; at most %d: %w", d.Agent, len(d.Params)+len(d.SecretFiles), maxFenceParams, ErrInvalid)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Params)) {
		if err := d.checkParam(key, d.Params[key]); err != nil {
			return fmt.Errorf("%s: %w", d.Agent, err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.SecretFiles)) {
		if err := d.checkSecret(key, d.SecretFiles[key]); err != nil {
			return fmt.Errorf("%s: %w", d.Agent, err)
		}
	}
	return nil
}

// checkParam refuses what would end a line of the program's input and begin another, such as action=on.
func (d FenceDevice) checkParam(key, value string) error {
	if err := checkParamName(key); err != nil {
		return err
	}
	if len(value) > maxFenceValue || strings.ContainsFunc(value, isControl) {
		return fmt.Errorf("the value of %s; want one line of at most %d bytes without control characters: %w", key, maxFenceValue, ErrInvalid)
	}
	return nil
}

func (d FenceDevice) checkSecret(key, file string) error {
	if err := checkParamName(key); err != nil {
		return err
	}
	if _, twice := d.Params[key]; twice {
		return fmt.Errorf("%s is both a parameter and in a secret file; want one of them: %w", key, ErrInvalid)
	}
	if !path.IsAbs(file) || path.Clean(file) != file || len(file) > maxFenceValue || strings.ContainsFunc(file, isControl) {
		return fmt.Errorf("secret file %.80q of %s; want an absolute path, such as /etc/holdfast/ipmi-password: %w", file, key, ErrInvalid)
	}
	return nil
}

func checkParamName(key string) error {
	lower := strings.ToLower(key)
	switch {
	case !fenceParam.MatchString(key):
		return fmt.Errorf("parameter %.80q; want letters, digits and _, such as ip or username: %w", key, ErrInvalid)
	case lower == "action" || lower == "option":
		return fmt.Errorf("parameter %s is chosen by the pool (off, status, on); leave it out: %w", key, ErrInvalid)
	case strings.HasSuffix(lower, "_script") || strings.HasSuffix(lower, "_path") || lower == "debug_file":
		return fmt.Errorf("parameter %s would run or write something else on the servers; leave it out, and keep secrets in secret files: %w", key, ErrInvalid)
	}
	return nil
}

func isControl(r rune) bool {
	return r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029
}
