package store

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// The pool that figures are measured on.
const (
	benchServers    = 100
	benchVMs        = 10_000
	benchEvents     = 2000
	benchOperations = 500
)

// benchXML is a definition of the size that virt-install writes: about 5 KB.
var benchXML = "<domain type='kvm'>" + strings.Repeat("<controller type='pci' model='pcie-root-port'><target chassis='1' port='0x10'/></controller>\n", 55) + "</domain>"

// bigPool lists a pool of benchServers and benchVMs as etcd would hand it out.
func bigPool() []kv.KeyValue {
	k := NewKeys("lab")
	var all []kv.KeyValue
	add := func(op kv.Op, lease kv.LeaseID) {
		rev := pool.Revision(len(all) + 2)
		all = append(all, kv.KeyValue{Key: op.Key, Value: op.Value, CreateRevision: rev, ModRevision: rev, Lease: lease})
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	add(k.PutConfig(pool.DefaultConfig("lab", life)), 0)
	for i := range benchServers {
		id := benchServer(i)
		add(k.PutServer(pool.Server{ID: id, Address: fmt.Sprintf("10.0.0.%d:8474", i), HostUUID: life,
			Fence: []pool.FenceDevice{{Agent: "fence_ipmilan", Params: map[string]string{"ip": "10.1.0.1", "username": "holdfast"}}}}), 0)
		add(k.PutMember(pool.Member{Server: id, Version: "v1", Incarnation: life, BootID: life, MemoryBytes: 1 << 40, CPUs: 64, Guard: true, Since: at}, 1), kv.LeaseID(i+1))
	}
	for i := range benchVMs {
		id := pool.VMID(fmt.Sprintf("vm-%05d", i))
		vm := pool.DefaultVM(id)
		vm.UUID, vm.XML, vm.MemoryBytes, vm.CPUs, vm.HA = life, fmt.Sprintf("<!--%d-->%s", i, benchXML), 4<<30, 2, true
		vm.HAMark, vm.DesiredMark = pool.Mark{By: "alice", At: at}, pool.Mark{By: "alice", At: at}
		vm.Needs = []pool.Need{{Kind: pool.NeedFile, Name: fmt.Sprintf("/srv/pool/%s.qcow2", id)}, {Kind: pool.NeedBridge, Name: "br0"}}
		vm.Desired = pool.DesiredRunning
		server := benchServer(i % benchServers)
		add(k.PutVM(vm), 0)
		add(k.PutClaim(benchClaim(id, server, 1)), 0)
		add(k.PutState(pool.VMState{VM: id, Server: server, Epoch: 1, State: pool.RunRunning, Since: at}), 0)
		add(k.PutHome(pool.Home{VM: id, Server: server}), 0)
	}
	for i := range benchEvents {
		add(k.PutEvent(pool.Event{ID: EventID(at, "srv-001", uint64(i)), At: at, Kind: "VM_STARTED", Server: "srv-001", VM: "vm-00001",
			Actor: "leader srv-001", Text: "vm-00001 started on srv-001 after its server srv-002 was fenced by power"}), 0)
	}
	for i := range benchOperations {
		add(k.PutOperation(pool.Operation{ID: pool.OperationID(fmt.Sprintf("op-%05d", i)), Kind: pool.OperationMigrate, VM: "vm-00001",
			Outcome: pool.OutcomeDone, Requested: pool.Mark{By: "alice", At: at}}), 0)
	}
	return all
}

func benchServer(i int) pool.ServerID { return pool.ServerID(fmt.Sprintf("srv-%03d", i)) }

func benchClaim(vm pool.VMID, server pool.ServerID, epoch pool.Epoch) pool.Claim {
	return pool.Claim{VM: vm, Server: server, Session: 1000, Epoch: epoch, Phase: pool.PhaseHeld, Armed: true, Watchdog: 10 * time.Second,
		Incarnation: life, Since: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
}

func benchFold(tb testing.TB) *fold {
	tb.Helper()
	f := newFold(NewKeys("lab"), life)
	all := bigPool()
	if err := f.list(all, pool.Revision(len(all)+1)); err != nil {
		tb.Fatal(err)
	}
	if n := f.snap.Corrupt.Len(); n != 0 {
		tb.Fatalf("%d keys of the made-up pool cannot be read", n)
	}
	return f
}

// benchUpdate applies one changed key to the big pool again and again; the figure includes decoding.
func benchUpdate(b *testing.B, put func(i int) kv.Op) {
	f := benchFold(b)
	values := make([]kv.KeyValue, 256)
	for i := range values {
		op := put(i)
		values[i] = kv.KeyValue{Key: op.Key, Value: op.Value, CreateRevision: 5}
	}
	rev := f.snap.Revision
	b.ReportAllocs()
	b.ResetTimer()
	began := processTime(b)
	for i := range b.N {
		rev++
		entry := values[i%len(values)]
		entry.ModRevision = rev
		if err := f.apply(kv.Batch{Revision: rev, Events: []kv.Event{{KeyValue: entry}}}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(processTime(b)-began)/float64(b.N), "cpu-ns/op")
	if f.snap.Corrupt.Len() != 0 {
		b.Fatal("a changed key could not be read")
	}
}

// processTime is the processor time used so far, collection of garbage included: a figure that does not depend on what
// else the machine does.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSnapshotUpdateOfAClaim(b *testing.B) {
	benchUpdate(b, func(i int) kv.Op {
		return NewKeys("lab").PutClaim(benchClaim(pool.VMID(fmt.Sprintf("vm-%05d", i*39)), benchServer(i%benchServers), 2))
	})
}

func BenchmarkSnapshotUpdateOfAState(b *testing.B) {
	benchUpdate(b, func(i int) kv.Op {
		return NewKeys("lab").PutState(pool.VMState{VM: pool.VMID(fmt.Sprintf("vm-%05d", i*39)), Server: "srv-001", Epoch: 2, State: pool.RunStarting})
	})
}

func BenchmarkSnapshotUpdateOfAVM(b *testing.B) {
	benchUpdate(b, func(i int) kv.Op {
		vm := pool.DefaultVM(pool.VMID(fmt.Sprintf("vm-%05d", i*39)))
		vm.XML, vm.MemoryBytes, vm.CPUs = benchXML, 4<<30, 2
		return NewKeys("lab").PutVM(vm)
	})
}

// BenchmarkPoolMemory reports how much memory the mirrored pool keeps, as MB/pool.
func BenchmarkPoolMemory(b *testing.B) {
	for range b.N {
		before := heap()
		f := benchFold(b)
		after := heap()
		b.ReportMetric(float64(after-before)/1e6, "MB/pool")
		runtime.KeepAlive(f)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestTheBigPoolFitsIntoItsMemory(t *testing.T) {
	const limit = 150e6
	before := heap()
	f := benchFold(t)
	used := float64(heap() - before)
	runtime.KeepAlive(f)
	t.Logf("a pool of %d servers and %d VMs takes %.0f MB", benchServers, benchVMs, used/1e6)
	if used > limit {
		t.Errorf("%.0f MB, want at most %.0f", used/1e6, limit/1e6)
	}
}
