package cli

import (
	"strings"
	"testing"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestAVMWhoseRecordsCannotBeReadIsCalledUnreadable(t *testing.T) {
	v := &pb.VMView{Vm: &pb.VM{Id: "web"}, Reason: "its claim in etcd cannot be read; it is left alone"}
	if got := vmLine(v, nil); !strings.HasPrefix(got, "unreadable") || !strings.HasSuffix(got, v.GetReason()) {
		t.Errorf("got %q", got)
	}
	if got := vmWord(pb.VMStatus_VM_STATUS_RUNNING); got != "running" {
		t.Errorf("got %q", got)
	}
}
