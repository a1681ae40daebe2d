package fence

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	// outputKept is how much of what a program prints is kept, in bytes; the rest is read and dropped.
	outputKept = 32 << 10
	// outputShown is how much of that an error quotes, in bytes.
	outputShown = 300
	// drain is how long the output of a program that has ended is waited for: a child of its may hold it open.
	drain = time.Second
)

// environment is all that programs get: nothing of this agent's own.
var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "LANG=C"}

// result is how a program ended.
type result struct {
	code int
	// text is what it printed: bounded, in one line, without secrets.
	text string
	// says is the state that it prints, Unknown if none.
	says State
}

// said quotes the output for an error.
func (r result) said() string {
	if r.text == "" {
		return ""
	}
	return ": " + r.text
}

// run runs a device's program once, for no longer than its time-out. An error means that it did not end by itself.
func (f *Fencer) run(ctx context.Context, d device, action string) (result, error) {
	path, err := f.find(d)
	if err != nil {
		return result{}, err
	}
	input, secrets, err := f.input(d, action)
	if err != nil {
		return result{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	out := &keeper{}
	cmd := exec.CommandContext(bounded, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), out, out
	cmd.Env, cmd.Dir = environment, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = drain

	began := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, fmt.Errorf("run %s: %w", d.name, err)
	}
	err = cmd.Wait()
	took := time.Since(began)
	text := out.text(secrets)
	r := result{code: cmd.ProcessState.ExitCode(), text: shown(text), says: stateIn(text)}
	f.Log.Info("fence program ran", "server", d.server, "device", d.name, "action", action, "exit", r.code, "took", took)
	switch {
	case ctx.Err() != nil:
		return result{}, fmt.Errorf("%s was stopped during %s: %w", d.name, action, context.Cause(ctx))
	case bounded.Err() != nil:
		return result{}, fmt.Errorf("%s did not finish %s within %v and was killed%s", d.name, action, d.Timeout, r.said())
	case cmd.ProcessState.Exited():
		return r, nil
	}
	return result{}, fmt.Errorf("%s broke off during %s: %w%s", d.name, action, err, r.said())
}

// killGroup kills a program that has not been waited for, and all that it started and left in its process group.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// keeper keeps the beginning of what is written to it. It is safe for concurrent use: a process that outlives the
// program may still write.
type keeper struct {
	mu   sync.Mutex
	data []byte
	more bool
}

var _ io.Writer = (*keeper)(nil)

// Write takes everything and keeps what there is room for.
func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := min(len(p), outputKept-len(k.data))
	k.data = append(k.data, p[:n]...)
	k.more = k.more || n < len(p)
	return len(p), nil
}

// text is what was kept, without secrets. Programs quote them: lib/fencing.py.py logs a line that it does not know.
func (k *keeper) text(secrets []string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	text := string(k.data)
	if k.more { // the end may be the beginning of a secret
		for _, s := range secrets {
			text = text[:min(len(text), outputKept-len(s))]
		}
	}
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// shown is the end of a text, in one line without control characters.
func shown(text string) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return r <= ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029
	}), " ")
	if len(text) <= outputShown {
		return text
	}
	text = text[len(text)-outputShown:]
	for !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return "... " + text
}

// stateIn finds the state in the output of `status`: programs print "Status: OFF", or only the word.
func stateIn(text string) State {
	says := Unknown
	for line := range strings.Lines(text) {
		line = strings.ToLower(strings.TrimSpace(line))
		switch strings.TrimSpace(strings.TrimPrefix(line, "status:")) {
		case "on":
			says = On
		case "off":
			says = Off
		}
	}
	return says
}
