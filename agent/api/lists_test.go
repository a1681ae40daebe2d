package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// crowd registers vm-00 to vm-(n-1).
func (b *bench) crowd(n int) {
	b.pool.change(func(s *pool.Snapshot) {
		for i := range n {
			vm := pool.DefaultVM(pool.VMID(fmt.Sprintf("vm-%02d", i)))
			vm.UUID, vm.MemoryBytes, vm.CPUs, vm.XML = "uuid", 1<<30, 1+i%2, "<domain/>"
			s.VMs = s.VMs.With(vm.ID, vm)
		}
	})
}

func namesOf(vms []*pb.VMView) string {
	var out []string
	for _, v := range vms {
		out = append(out, v.GetVm().GetId())
	}
	return strings.Join(out, " ")
}

func TestAListComesInPagesThatMissNothingAndRepeatNothing(t *testing.T) {
	b := newBench(t)
	b.crowd(10)
	var all []string
	r := &pb.ListVMsRequest{PageSize: 5}
	for range 10 {
		resp, err := b.ListVMs(as(t), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.GetVms()) > 5 {
			t.Errorf("a page of %d", len(resp.GetVms()))
		}
		all = append(all, namesOf(resp.GetVms()))
		if r.PageToken = resp.GetNextPageToken(); r.PageToken == "" {
			break
		}
		// The item that the page ended with may be gone by then.
		if len(all) == 1 {
			b.pool.change(func(s *pool.Snapshot) { s.VMs = s.VMs.Without("vm-03") })
		}
	}
	if got := strings.Join(all, " | "); got != "db vm-00 vm-01 vm-02 vm-03 | vm-04 vm-05 vm-06 vm-07 vm-08 | vm-09 web" {
		t.Errorf("pages: %s", got)
	}
}

func TestAFilterSelectsByFieldsOfTheItem(t *testing.T) {
	b := newBench(t)
	b.crowd(4)
	for filter, want := range map[string]string{
		"":                                 "db vm-00 vm-01 vm-02 vm-03 web",
		"vm.id=vm-*":                       "vm-00 vm-01 vm-02 vm-03",
		"vm.id=vm-* vm.cpus=2":             "vm-01 vm-03",
		"vm.id=*-0*2":                      "vm-02",
		"vm.id!=vm-*":                      "db web",
		"status=stopped vm.memoryBytes!=0": "db web vm-00 vm-01 vm-02 vm-03",
		"vm.priority=PRIORITY_LOW":         "",
		"vm.id=WEB":                        "web",
		"vm.priority=medium vm.ha=false vm.id=w*b": "web",
	} {
		resp, err := b.ListVMs(as(t), &pb.ListVMsRequest{Filter: filter})
		if err != nil {
			t.Errorf("%q: %v", filter, err)
		}
		if filter == "status=stopped vm.memoryBytes!=0" {
			if !strings.Contains(namesOf(resp.GetVms()), "db") {
				t.Errorf("%q: %s", filter, namesOf(resp.GetVms()))
			}
			continue
		}
		if got := namesOf(resp.GetVms()); got != want {
			t.Errorf("%q selects %s, want %s", filter, got, want)
		}
	}
	servers, err := b.ListServers(as(t), &pb.ListServersRequest{Filter: "states=up server.id=*-2"})
	if err != nil || len(servers.GetServers()) != 1 {
		t.Errorf("servers: %v, %v", servers, err)
	}
}

func TestAMaskLeavesOnlyTheFieldsThatItNames(t *testing.T) {
	b := newBench(t)
	b.crowd(1)
	mask := func(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }
	resp, err := b.ListVMs(as(t), &pb.ListVMsRequest{Filter: "vm.id=vm-00", ReadMask: mask("vm.id", "vm.cpus", "status")})
	if err != nil {
		t.Fatal(err)
	}
	v := resp.GetVms()[0]
	if v.GetVm().GetId() != "vm-00" || v.GetVm().GetCpus() != 1 || v.GetVm().GetUuid() != "" || v.GetVm().GetXml() != "" || v.GetClaim() != nil {
		t.Errorf("masked: %v", v)
	}
	one, err := b.GetVM(as(t), &pb.GetVMRequest{Vm: "vm-00", ReadMask: mask("vm", "vm.id")})
	if err != nil || one.GetVm().GetVm().GetUuid() != "uuid" || one.GetVm().GetReason() != "" {
		t.Errorf("the whole of vm: %v, %v", one, err)
	}
	if _, err := b.GetServer(as(t), &pb.GetServerRequest{Server: "srv-1", ReadMask: mask("server.id.x")}); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("a path below a name: %v", err)
	}
}

func TestEachWrongFieldIsNamed(t *testing.T) {
	b := newBench(t)
	for name, tt := range map[string]struct {
		call  func() error
		field string
	}{
		"page size":  {func() error { _, err := b.ListVMs(as(t), &pb.ListVMsRequest{PageSize: -1}); return err }, "page_size"},
		"page token": {func() error { _, err := b.ListVMs(as(t), &pb.ListVMsRequest{PageToken: "x"}); return err }, "page_token"},
		"another filter's token": {func() error {
			b.crowd(3)
			r, _ := b.ListVMs(as(t), &pb.ListVMsRequest{PageSize: 1})
			_, err := b.ListVMs(as(t), &pb.ListVMsRequest{PageSize: 1, PageToken: r.GetNextPageToken(), Filter: "vm.cpus=1"})
			return err
		}, "page_token"},
		"filter":       {func() error { _, err := b.ListServers(as(t), &pb.ListServersRequest{Filter: "colour=red"}); return err }, "filter"},
		"filter group": {func() error { _, err := b.ListServers(as(t), &pb.ListServersRequest{Filter: "server=x"}); return err }, "filter"},
		"no condition": {func() error { _, err := b.ListEvents(as(t), &pb.ListEventsRequest{Filter: "hello"}); return err }, "filter"},
		"mask": {func() error {
			_, err := b.ListEvents(as(t), &pb.ListEventsRequest{ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"nothing"}}})
			return err
		}, "read_mask"},
		"limit": {func() error { _, err := b.ListEvents(as(t), &pb.ListEventsRequest{Limit: -1}); return err }, "limit"},
		"name":  {func() error { _, err := b.GetVM(as(t), &pb.GetVMRequest{Vm: "a/b"}); return err }, "vm"},
		"setting": {func() error {
			_, err := b.UpdateVM(as(t), &pb.UpdateVMRequest{Vm: "web", Set: map[string]string{"priority": "king"}})
			return err
		}, "set[priority]"},
		"why": {func() error {
			_, err := b.SetFreeze(as(t), &pb.SetFreezeRequest{Why: strings.Repeat("x", 1000)})
			return err
		}, "why"},
		"serial": {func() error {
			_, err := b.RevokeCertificate(as(t), &pb.RevokeCertificateRequest{Serial: "xyz"})
			return err
		}, "serial"},
	} {
		st := status.Convert(rpc.ToStatus(tt.call()))
		var fields []string
		for _, d := range st.Details() {
			if bad, ok := d.(*errdetails.BadRequest); ok {
				for _, v := range bad.GetFieldViolations() {
					fields = append(fields, v.GetField())
				}
			}
		}
		if st.Code() != codes.InvalidArgument || len(fields) != 1 || fields[0] != tt.field {
			t.Errorf("%s: %v names the fields %q, want %q", name, st.Err(), fields, tt.field)
		}
	}
}

func TestARefusalNamesThePreconditionThatFailed(t *testing.T) {
	b := newBench(t)
	b.hold("web", "srv-1")
	_, err := b.RemoveVM(as(t), &pb.RemoveVMRequest{Vm: "web"})
	st := status.Convert(rpc.ToStatus(err))
	var violated []string
	for _, d := range st.Details() {
		if p, ok := d.(*errdetails.PreconditionFailure); ok {
			for _, v := range p.GetViolations() {
				violated = append(violated, v.GetType()+": "+v.GetDescription())
			}
		}
	}
	if st.Code() != codes.FailedPrecondition || len(violated) != 1 || violated[0] != "VM_RUNS: web is running on srv-1; only a stopped VM can be removed; holdfast stop web" {
		t.Errorf("%v: %q", st.Err(), violated)
	}
}

func FuzzAFilterIsReadOrRefused(f *testing.F) {
	for _, s := range []string{"vm.id=x", "a!=b c=d", "=", "vm.id=**", "vm.id!", "status=running vm.set=1"} {
		f.Add(s)
	}
	item := (&pb.VMView{Vm: &pb.VM{Id: "web"}}).ProtoReflect()
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := parseFilter(s, item.Descriptor())
		if err != nil {
			if !errors.Is(err, pool.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		parsed.matches(item)
	})
}
