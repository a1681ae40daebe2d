package terminal

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/opentype"

	"github.com/holdfast-ha/holdfast/console/cli/fakepool"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "holdfast-console-test-")
	if err != nil {
		return "", err
	}
	return Build(context.Background(), dir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // a temporary folder
	}
	os.Exit(code)
}

// binary builds the real program once for all tests.
func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// bed is a console on an emulated terminal.
type bed struct {
	t    *testing.T
	term *Terminal
	ctx  context.Context //nolint:containedctx // the test's
}

func open(t *testing.T, agents string, width, height int, args ...string) *bed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	term, err := Start(ctx, width, height, nil, binary(t), append([]string{"--agents", agents}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(term.Close)
	return &bed{t, term, ctx}
}

func (b *bed) press(names ...string) {
	b.t.Helper()
	if err := b.term.Press(names...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) sees(want ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := b.term.Shows(ctx, want...); err != nil {
		b.t.Fatal(err)
	}
}

// row waits until the line of that VM or server contains all of these texts.
func (b *bed) row(name string, want ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	err := b.term.WaitFor(ctx, fmt.Sprintf("%s with %q", name, want), func(s string) bool {
		for line := range strings.SplitSeq(s, "\n") {
			if !strings.Contains(line, " "+name+" ") {
				continue
			}
			all := true
			for _, w := range want {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) ends(code int) {
	b.t.Helper()
	select {
	case <-b.term.Done():
	case <-b.ctx.Done():
		b.t.Fatalf("the console does not end; the screen:\n%s", b.term.Screen())
	}
	if got := b.term.ExitCode(); got != code {
		b.t.Errorf("exit code %d, want %d", got, code)
	}
	if !b.term.Restored() {
		b.t.Error("the terminal was not restored")
	}
}

// TestABadNightOnTheRealTerminal plays a night on the real program, a real terminal's bytes and real agents: a
// migration, an evacuation, a server's death, the leader's death, and the loss of etcd.
func TestABadNightOnTheRealTerminal(t *testing.T) {
	t.Parallel()
	demo := playing(t, "testdata/night.scenario")
	tell := func(statement string) {
		t.Helper()
		if err := demo.Tell(statement); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	b := open(t, demo.Address(), 120, 40)
	b.sees("SERVER", "srv-1", "[1 Overview]")
	t.Logf("first full frame after %s", time.Since(start).Round(time.Millisecond))
	b.sees("* live", "HA ON", "running 7")

	b.press("2")
	b.row("srv-3", "up, locked")
	b.press(":", "inbound-lock off srv-3", "enter")
	b.sees("Inbound lock off for srv-3", "Cancel")
	b.press("tab", "enter")
	b.row("srv-3", "up ")

	b.press("3", ":", "migrate web-01 srv-3", "enter")
	b.sees("Migrate web-01", "recommended", "srv-3", "PREVIEW")
	b.press("tab", "enter")
	b.row("web-01", "srv-3", "running")

	b.press("2", ":", "maintenance enter srv-1", "enter")
	b.sees("Maintenance of srv-1", "db-main", "PREVIEW")
	b.press("shift+tab")
	b.press("esc")
	b.press(":", "maintenance exit srv-1", "enter")
	b.sees("REFUSED", "it is not in maintenance")
	b.press("esc")

	tell("power off srv-2")
	b.sees("srv-2", "lost")
	b.sees("fenced")
	b.press("3")
	b.row("db-copy", "running")
	b.row("lab-box", "lost")
	b.row("gpu-box", "waiting")
	tell("power on srv-2")
	b.row("gpu-box", "running", "srv-2")
	b.press("6")
	b.sees("[6 Incidents]", "srv-2 was lost")
	b.press("enter")
	b.sees("INCIDENT ", "recorded by", "db-copy", "restarted")
	b.press("esc")
	b.sees("[6 Incidents]", "help")
	b.press("3")

	leader := leaderOf(b.term.Screen())
	tell("agent kill leader")
	b.sees("leader " + leader + " -> ")
	tell("agent start " + leader)

	tell("etcd down")
	b.sees("nothing can be changed")
	b.press("H")
	b.sees("REFUSED")
	b.press("esc")
	tell("etcd up")
	b.sees("* live", "leader srv-")

	if err := b.term.Resize(80, 24); err != nil {
		t.Fatal(err)
	}
	b.sees("[3 VMs 7]")
	b.press("5")
	b.sees("web-01")
	b.press("q")
	b.ends(0)
}

// leaderOf reads the leader from the header.
func leaderOf(screen string) string {
	_, after, _ := strings.Cut(screen, "leader ")
	name, _, _ := strings.Cut(after, " ")
	return name
}

// fake starts a pool without any decisions behind it.
func fake(t *testing.T, agents int) (*fakepool.Pool, string) {
	t.Helper()
	p := fakepool.New(fakepool.Troubled())
	t.Cleanup(p.Close)
	addresses, err := p.Start(agents)
	if err != nil {
		t.Fatal(err)
	}
	return p, strings.Join(addresses, ",")
}

func TestReadOnlyRefusesEveryKeyThatChangesSomething(t *testing.T) {
	p, agents := fake(t, 1)
	b := open(t, agents, 100, 30, "--read-only")
	b.sees("READ-ONLY")
	b.press("H")
	b.sees("REFUSED", "started with --read-only")
	b.press("esc", "3", "A")
	b.sees("ACTIONS", "no: read-only: started with --read-only")
	b.press("esc", ":", "stop web-01", "enter")
	b.sees("REFUSED")
	b.press("esc", "q")
	b.ends(0)
	for _, c := range p.Calls("") {
		if c.Method == "StopVM" || c.Method == "SetPoolHA" {
			t.Errorf("sent %s", c.Method)
		}
	}
}

func TestAnAgentsDeathIsBridgedAndTheDeathOfAllIsShown(t *testing.T) {
	p, agents := fake(t, 2)
	b := open(t, agents, 100, 30)
	b.sees("* live")
	if err := p.Kill(0); err != nil {
		t.Fatal(err)
	}
	b.sees("back after")
	if err := p.Kill(1); err != nil {
		t.Fatal(err)
	}
	b.sees("STALE since", "reconnecting", "up?", "N+1 unknown")
	b.press("?")
	b.sees("HELP")
	b.press("esc", "q")
	b.ends(0)
}

func TestATerminationSignalRestoresTheTerminal(t *testing.T) {
	_, agents := fake(t, 1)
	b := open(t, agents, 80, 24)
	b.sees("* live")
	if err := b.term.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.ends(0)
}

func TestPicturesShowTheTerminalsCells(t *testing.T) {
	_, agents := fake(t, 1)
	b := open(t, agents, 100, 30, "--light=false")
	b.sees("* live", "PROBLEMS 6")
	p := b.term.Picture()
	var svg, pixels bytes.Buffer
	if err := errors.Join(p.SVG(&svg), p.PNG(&pixels)); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for d := xml.NewDecoder(&svg); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the SVG is broken: %v", err)
		}
		if c, ok := tok.(xml.CharData); ok {
			text.Write(c)
		}
	}
	for _, want := range []string{"WAITING FOR FENCING", "hv-06", "N+1"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the SVG does not contain %q", want)
		}
	}
	img, err := png.Decode(&pixels)
	if err != nil {
		t.Fatal(err)
	}
	if got := img.Bounds().Dx(); got != 100*cellWidth+2*margin {
		t.Errorf("the PNG is %d wide", got)
	}
}

// TestPicturesCanDrawEveryCharacterOfTheManual: what the font lacks would be an empty box.
func TestPicturesCanDrawEveryCharacterOfTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	f, err := opentype.Parse(gomono.TTF)
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewRGBA(image.Rect(0, 0, cellWidth, cellHeight))
	ink := color.RGBA{0xff, 0xff, 0xff, 0xff}
	seen := map[rune]bool{}
	for _, c := range string(manual) {
		if seen[c] || c < ' ' {
			continue
		}
		seen[c] = true
		glyph, err := f.GlyphIndex(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		if glyph == 0 && !block(img, img.Bounds(), c, ink, color.RGBA{}) {
			t.Errorf("%q cannot be drawn", c)
		}
	}
	if !seen['▁'] || !seen['█'] || !seen['│'] {
		t.Error("the manual shows no bars and frames any more")
	}
	last := 0
	for _, c := range "▁▂▃▄▅▆▇█" {
		img := image.NewRGBA(img.Bounds())
		block(img, img.Bounds(), c, ink, color.RGBA{})
		inked := 0
		for i := 3; i < len(img.Pix); i += 4 {
			inked += int(img.Pix[i]) / 0xff
		}
		if inked <= last {
			t.Errorf("%q has %d points, the bar below it %d", c, inked, last)
		}
		last = inked
	}
}
