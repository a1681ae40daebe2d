package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// freePorts returns the first of n ports in a row that are free on loopback.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 50 {
		if first, ok := portsInARow(n); ok {
			return first
		}
	}
	t.Fatal("no free ports in a row")
	return 0
}

func portsInARow(n int) (first int, ok bool) {
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first+i)) // first 0: any
		if err != nil {
			return 0, false
		}
		defer l.Close()
		if a, ok := l.Addr().(*net.TCPAddr); ok && i == 0 {
			first = a.Port
		}
	}
	return first, first+n < 65536
}

// output collects what a program prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// demoBed is a demo that runs in this process, by its own command.
type demoBed struct {
	t       *testing.T
	control string
	agents  []string
	etcd    string
	client  *rpc.Client
	printed *output
}

func startDemo(t *testing.T, more ...string) *demoBed {
	t.Helper()
	port := freePorts(t, 5)
	b := &demoBed{t: t, control: filepath.Join(t.TempDir(), "demo.sock"), printed: &output{}}
	for i := range 3 {
		b.agents = append(b.agents, fmt.Sprintf("127.0.0.1:%d", port+i))
	}
	b.etcd = fmt.Sprintf("127.0.0.1:%d", port+3)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- b.run(ctx, b.printed, append([]string{"--plain", "--port", strconv.Itoa(port), "--etcd-port", strconv.Itoa(port + 3)}, more...)...)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the demo ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the demo does not end")
		}
		if t.Failed() {
			t.Logf("the demo printed:\n%s", b.printed)
		}
	})
	var err error
	if b.client, err = rpc.Dial(rpc.Target{Agents: b.agents}, rpc.Limits{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.client.Close() })
	return b
}

// run is `holdfast-agent demo ARGS`.
func (b *demoBed) run(ctx context.Context, out *output, args ...string) error {
	cmd := demoCommand()
	cmd.SetOut(out)
	cmd.SetErr(out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{"--control", b.control}, args...))
	return cmd.ExecuteContext(ctx)
}

// tell pulls a plug.
func (b *demoBed) tell(words ...string) error {
	b.t.Helper()
	out := &output{}
	err := b.run(b.t.Context(), out, words...)
	if err == nil && strings.TrimSpace(out.String()) != "done" {
		b.t.Errorf("%v: the answer is %q", words, out)
	}
	return err
}

// until waits until the VMs of the pool satisfy f.
func (b *demoBed) until(what string, limit time.Duration, f func(map[string]*pb.VMView) bool) {
	b.t.Helper()
	limit = max(limit, time.Minute) // less says nothing on a machine that stands still now and then
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(b.t.Context(), limit)
	defer cancel()
	var last string
	for {
		r, err := pb.NewVMServiceClient(b.client).ListVMs(ctx, &pb.ListVMsRequest{})
		vms := map[string]*pb.VMView{}
		last = fmt.Sprint("error: ", err)
		if err == nil {
			last = ""
			for _, v := range r.GetVms() {
				vms[v.GetVm().GetId()] = v
				last += fmt.Sprintf("%s %s on %s: %s\n", v.GetVm().GetId(), v.GetStatus(), v.GetClaim().GetServer(), v.GetReason())
			}
			if f(vms) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("not within %v: %s; the VMs:\n%s", limit, what, last)
		}
	}
}

func runsOn(v *pb.VMView, servers ...string) bool {
	return v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING && slices.Contains(servers, v.GetClaim().GetServer())
}

func TestDemoPoolRunsAndSurvivesAPulledPlug(t *testing.T) {
	b := startDemo(t)
	home := map[string]string{"db-main": "srv-1", "web-01": "srv-1", "wiki": "srv-1", "db-copy": "srv-2", "web-02": "srv-2",
		"lab-box": "srv-2", "mail": "srv-3", "build": "srv-3"}
	b.until("eight VMs run where they belong", 20*time.Second, func(vms map[string]*pb.VMView) bool {
		for id, v := range vms {
			if !runsOn(v, home[id]) {
				return false
			}
		}
		return len(vms) == 8
	})
	reflected(t, b.agents[0])

	err := b.run(t.Context(), &output{}, "--plain", "--port", "1", "--etcd-port", "2")
	if err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("a second demo at the same socket: %v", err)
	}
	for words, want := range map[string]string{"make tea": "power off srv-2", "power off srv-9": "srv-9", "vm crash nobody": "nobody", "maintenance on srv-1": ""} {
		if err := b.tell(strings.Fields(words)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it refused with a word on %q", words, err, want)
		}
	}

	if err := b.tell("power", "off", "srv-2"); err != nil {
		t.Fatal(err)
	}
	b.until("the VMs of srv-2 with HA run elsewhere, lab-box is lost", 20*time.Second, func(vms map[string]*pb.VMView) bool {
		for id, v := range vms {
			if id == "lab-box" && v.GetStatus() != pb.VMStatus_VM_STATUS_LOST || id != "lab-box" && !runsOn(v, "srv-1", "srv-3") {
				return false
			}
		}
		return len(vms) == 8
	})
	for _, vm := range []string{"db-copy", "web-02"} {
		if n := strings.Count(b.printed.String(), vm+" starts on"); n != 2 {
			t.Errorf("%s was started %d times, want once on srv-2 and once elsewhere", vm, n)
		}
	}
	if n := strings.Count(b.printed.String(), "lab-box starts on"); n != 1 {
		t.Errorf("lab-box was started %d times, want once", n)
	}
}

func TestDemoPlaysAScenarioFileInRealTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "evening.scenario")
	const text = `pool ttl=3s
server srv-1 memory=8G
server srv-2 memory=8G
vm wiki on=srv-1 memory=1G
vm mail on=srv-2 memory=1G

at 1s inbound-lock on srv-2
at 3s stop mail
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startDemo(t, "--scenario", file)
	b.until("both VMs of the file run", 30*time.Second, func(vms map[string]*pb.VMView) bool {
		return len(vms) == 2 && runsOn(vms["wiki"], "srv-1") && runsOn(vms["mail"], "srv-2")
	})
	b.until("mail is stopped", 30*time.Second, func(vms map[string]*pb.VMView) bool {
		return vms["mail"].GetStatus() == pb.VMStatus_VM_STATUS_STOPPED
	})
	lock, stop := b.saidAt("inbound-lock on srv-2"), b.saidAt("stop mail")
	if apart := stop.Sub(lock); apart < 1900*time.Millisecond {
		t.Errorf("what the file has 2 s apart came within %s", apart)
	}
}

// TestTheDemoCutsPowerRebootsServersAndSplitsTheNetwork plays what needs a machine besides the agent.
func TestTheDemoCutsPowerRebootsServersAndSplitsTheNetwork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "night.scenario")
	const text = `pool ttl=3s
server srv-1 memory=8G
server srv-2 memory=8G fencing=power fence-delay=100ms
server srv-3 memory=8G
vm wiki on=srv-1 memory=256M
vm mail on=srv-2 memory=256M disks=block
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startDemo(t, "--scenario", file)
	must := func(words ...string) {
		t.Helper()
		if err := b.tell(words...); err != nil {
			t.Fatal(err)
		}
	}
	b.until("both VMs run", 30*time.Second, func(vms map[string]*pb.VMView) bool {
		return runsOn(vms["wiki"], "srv-1") && runsOn(vms["mail"], "srv-2")
	})
	if err := b.tell("agent hang srv-1"); err == nil || !strings.Contains(err.Error(), "fence fails") || !strings.Contains(err.Error(), "reboot") {
		t.Errorf("what the demo cannot play is refused with %v, want what it can", err)
	}

	must("fence fails srv-2")
	must("power off srv-2")
	b.until("mail waits for fencing", 60*time.Second, func(vms map[string]*pb.VMView) bool {
		return vms["mail"].GetStatus() == pb.VMStatus_VM_STATUS_WAITING && strings.Contains(vms["mail"].GetReason(), "power fencing failed")
	})
	must("fence works srv-2")
	b.until("mail runs elsewhere", 60*time.Second, func(vms map[string]*pb.VMView) bool { return runsOn(vms["mail"], "srv-1", "srv-3") })

	must("reboot srv-1")
	b.until("wiki has left the server that reboots", 60*time.Second, func(vms map[string]*pb.VMView) bool { return runsOn(vms["wiki"], "srv-2", "srv-3") })
	b.until("wiki is home again", 90*time.Second, func(vms map[string]*pb.VMView) bool { return runsOn(vms["wiki"], "srv-1") })

	must("cut srv-1 etcd")
	b.until("wiki runs where etcd is", 60*time.Second, func(vms map[string]*pb.VMView) bool { return runsOn(vms["wiki"], "srv-2", "srv-3") })
	must("heal all")
}

// saidAt is when the demo printed that line.
func (b *demoBed) saidAt(text string) time.Time {
	b.t.Helper()
	for line := range strings.SplitSeq(b.printed.String(), "\n") {
		if at, rest, _ := strings.Cut(line, "  "); rest == text {
			said, err := time.Parse("15:04:05.000", at)
			if err != nil {
				b.t.Fatal(err)
			}
			return said
		}
	}
	b.t.Fatalf("the demo did not say %q", text)
	return time.Time{}
}

// reflected checks that an agent tells strangers to its API what it offers, over plaintext on loopback.
func reflected(t *testing.T, address string) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var names []string
	list := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	for _, svc := range list.GetListServicesResponse().GetService() {
		names = append(names, svc.GetName())
	}
	for _, want := range []string{"PoolService", "ServerService", "VMService", "OperationService", "EventService"} {
		if !slices.Contains(names, "holdfast.v1."+want) {
			t.Errorf("reflection lists %v, without %s", names, want)
		}
	}
	file := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "holdfast.v1.VMService.StartVM"}})
	if len(file.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection does not describe StartVM: %v", file)
	}
}
