package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// example is one command of a manual, and the code that it is said to be refused with.
type example struct{ line, refused string }

// examples finds the commands of a manual that talk to the demo.
func examples(t *testing.T, file string) []example {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []example
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    grpcurl -plaintext ") {
			found = append(found, example{line: strings.TrimSpace(line)})
		} else if code, ok := strings.CutPrefix(line, "    # "); ok && len(found) > 0 {
			found[len(found)-1].refused = code
		}
	}
	return found
}

// The manual's lines are run as they stand, but for the port.
func TestEveryGrpcurlLineOfTheManualsWorksOnTheDemoPool(t *testing.T) {
	if _, err := exec.LookPath("grpcurl"); err != nil {
		t.Skipf("grpcurl is not here (%v): make tools, and put .cache/tools into PATH", err)
	}
	b := startDemo(t)
	b.until("eight VMs run", 20*time.Second, func(vms map[string]*pb.VMView) bool {
		for _, v := range vms {
			if !runsOn(v, "srv-1", "srv-2", "srv-3") {
				return false
			}
		}
		return len(vms) == 8
	})
	called := map[string]bool{}
	for _, e := range examples(t, "../docs/api.md") {
		b.try(e)
		called[e.line[strings.LastIndex(e.line, " ")+1:]] = true
	}
	for _, services := range []string{"pool", "server", "vm", "operation", "event", "identity", "drill"} {
		text, err := os.ReadFile("../proto/holdfast/v1/" + services + "_service.proto")
		if err != nil {
			t.Fatal(err)
		}
		service := ""
		for line := range strings.Lines(string(text)) {
			words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" (\n", r) })
			switch {
			case len(words) > 1 && words[0] == "service":
				service = words[1]
			case len(words) > 1 && words[0] == "rpc" && !called["holdfast.v1."+service+"/"+words[1]]:
				t.Errorf("docs/api.md does not show %s/%s", service, words[1])
			}
		}
	}
}

func TestEveryGrpcurlLineOfTheReadmeWorksOnTheDemoPool(t *testing.T) {
	if _, err := exec.LookPath("grpcurl"); err != nil {
		t.Skipf("grpcurl is not here (%v): make tools, and put .cache/tools into PATH", err)
	}
	b := startDemo(t)
	found := examples(t, "../README.md")
	if len(found) == 0 {
		t.Fatal("README.md shows no call")
	}
	for _, e := range found {
		b.try(e)
	}
}

func (b *demoBed) try(e example) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	line := strings.Replace(e.line, "127.0.0.1:7400", b.agents[0], 1)
	endless := e.refused == "" && (strings.Contains(line, "/WatchPool") || strings.Contains(line, "/WatchEvents") || strings.Contains(line, "/WatchFigures"))
	if endless && !strings.Contains(line, "-max-time") {
		line = strings.Replace(line, "grpcurl ", "grpcurl -max-time 1 ", 1)
	}
	out, err := exec.CommandContext(ctx, "bash", "-c", line).CombinedOutput()
	said := string(out)
	switch {
	case endless:
		if !strings.Contains(said, "DeadlineExceeded") {
			b.t.Errorf("%s\nended otherwise than by its time: %v\n%s", e.line, err, said)
		}
	case e.refused == "" && err != nil:
		b.t.Errorf("%s\n%v\n%s", e.line, err, said)
	case e.refused != "" && !strings.Contains(said, "Code: "+e.refused):
		b.t.Errorf("%s\nis not refused as %s: %v\n%s", e.line, e.refused, err, said)
	}
}
