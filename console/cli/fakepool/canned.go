package fakepool

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Now is the wall-clock time at which the canned pools are shown.
var Now = time.Date(2026, 11, 22, 13, 5, 20, 0, time.UTC)

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(Now.Add(-d)) }

func config() *pb.PoolConfig {
	return &pb.PoolConfig{
		Name: "prod-a", Incarnation: "6f1c2b9e-0f6a-4d3f-9a52-3a1f0c9d7e11", Ha: true,
		HaMark:   &pb.Mark{By: "operator kim", At: ago(50 * time.Hour)},
		LeaseTtl: durationpb.New(5 * time.Second), ReturnHome: true, Shutdown: pb.ShutdownPolicy_SHUTDOWN_POLICY_EVACUATE,
		LockBarsFailover: true, OnIsolation: pb.Isolation_ISOLATION_STOP, IsolationGrace: durationpb.New(30 * time.Second),
		SuspectAfter: durationpb.New(2 * time.Second), StopLimit: durationpb.New(time.Minute), RestartGrace: durationpb.New(time.Minute),
		Migrations: 4, MigrationsPerServer: 2, AutoConverge: true, MigrateLimit: durationpb.New(30 * time.Minute),
		EventsKept: 2000, OperationsKept: 500,
	}
}

func server(id string, vms int32, used int64, states ...pb.ServerState) *pb.ServerView {
	return &pb.ServerView{
		Server: &pb.Server{Id: id, Address: id + ".example.net:7400", ReservedMemoryBytes: 2 << 30}, States: states,
		Member: &pb.Member{
			Server: id, Version: "v0.1.0", MemoryBytes: 64 << 30, Cpus: 16, Guard: true, EtcdVoter: true, Since: ago(72 * time.Hour),
		},
		Session: 4711, Vms: vms, MemoryUsedBytes: used << 30, CpusUsed: 2 * vms,
	}
}

func vm(id, server string, memory int64, status pb.VMStatus, reason string) *pb.VMView {
	v := &pb.VMView{
		Vm: &pb.VM{
			Id: id, Uuid: "11111111-2222-3333-4444-555555555555", Xml: "<domain/>", MemoryBytes: memory << 30, Cpus: 2, Ha: true,
			Priority: pb.Priority_PRIORITY_MEDIUM, Restarts: 1, Relocations: 1, Window: durationpb.New(10 * time.Minute), Movable: true, DiskLocks: true,
			Desired: pb.DesiredState_DESIRED_STATE_RUNNING,
		},
		Status: status, Reason: reason, Protected: true, Since: ago(3 * time.Hour),
		Claim: &pb.Claim{Vm: id, Server: server, Session: 4711, Epoch: 3, Phase: pb.ClaimPhase_CLAIM_PHASE_HELD, Armed: true},
	}
	if server == "" {
		v.Claim.Phase, v.Claim.Armed = pb.ClaimPhase_CLAIM_PHASE_UNASSIGNED, false
	}
	return v
}

// Healthy is a pool of three servers on which nothing is wrong.
func Healthy() *pb.Snapshot {
	up := pb.ServerState_SERVER_STATE_UP
	s := &pb.Snapshot{
		Pool:    &pb.PoolView{Config: config(), Leader: "hv-01", Revision: 8812, Servers: 3, ServersUp: 3, Vms: 4, VmsRunning: 3},
		Servers: []*pb.ServerView{server("hv-01", 2, 12, up), server("hv-02", 1, 8, up), server("hv-03", 0, 0, up)},
		Vms: []*pb.VMView{
			vm("db-main", "hv-01", 4, pb.VMStatus_VM_STATUS_RUNNING, ""), vm("old", "", 4, pb.VMStatus_VM_STATUS_STOPPED, ""),
			vm("web-01", "hv-01", 8, pb.VMStatus_VM_STATUS_RUNNING, ""), vm("web-02", "hv-02", 8, pb.VMStatus_VM_STATUS_RUNNING, ""),
		},
	}
	s.Servers[0].Leader = true
	s.Vms[1].Vm.Ha, s.Vms[1].Protected = false, false
	s.Vms[1].Vm.Desired = pb.DesiredState_DESIRED_STATE_STOPPED
	return s
}

// Troubled is a pool of six servers in the middle of a failover, with something of everything.
func Troubled() *pb.Snapshot {
	up, lost := pb.ServerState_SERVER_STATE_UP, pb.ServerState_SERVER_STATE_LOST
	s := &pb.Snapshot{
		Pool: &pb.PoolView{
			Config: config(), Leader: "hv-03", Revision: 8812, Servers: 6, ServersUp: 5, Vms: 11, VmsRunning: 4, VmsWaiting: 1,
			Alerts: []*pb.Alert{
				{Id: "a1", Kind: "SERVER_LOST", Server: "hv-06", Text: "hv-06 is lost: its lease expired", Since: ago(8 * time.Second)},
				{Id: "a2", Kind: "VM_WAITING", Vm: "web-gpu", Text: "web-gpu waits: no free GPU anywhere", Since: ago(7 * time.Minute)},
			},
			CorruptKeys: map[string]string{"/holdfast/v1/prod-a/vms/bad": "not JSON: unexpected end"},
		},
		Servers: []*pb.ServerView{
			server("hv-01", 3, 50, up), server("hv-02", 2, 30, up, pb.ServerState_SERVER_STATE_LOCKED), server("hv-03", 1, 4, up),
			server("hv-04", 2, 60, up), server("hv-05", 2, 12, up), server("hv-06", 1, 8, lost),
		},
		Vms: []*pb.VMView{
			vm("batch-3", "hv-04", 32, pb.VMStatus_VM_STATUS_FAILED, "it crashed 4 times on hv-04 and hv-05 within 10m; clear it to try again"),
			vm("db-main", "hv-01", 64, pb.VMStatus_VM_STATUS_RUNNING, ""), vm("lab-2", "hv-06", 8, pb.VMStatus_VM_STATUS_LOST, "HA is off for this VM"),
			vm("old", "", 4, pb.VMStatus_VM_STATUS_STOPPED, ""), vm("web-01", "hv-02", 8, pb.VMStatus_VM_STATUS_RUNNING, ""),
			vm("web-02", "hv-02", 8, pb.VMStatus_VM_STATUS_STOPPING, "guest asked to shut down"),
			vm("web-03", "hv-04", 4, pb.VMStatus_VM_STATUS_RUNNING, ""),
			vm("web-08", "hv-05", 4, pb.VMStatus_VM_STATUS_STARTING, "restarted after hv-06 was fenced"),
			vm("web-11", "hv-01", 4, pb.VMStatus_VM_STATUS_PAUSED, "I/O error on vda"), vm("web-evil\x1b[2J", "hv-03", 4, pb.VMStatus_VM_STATUS_RUNNING, ""),
			vm("web-gpu", "", 32, pb.VMStatus_VM_STATUS_WAITING, "no free GPU anywhere: hv-01, hv-02, hv-03, hv-04 and hv-05 have no host device 0000:3b:00.0"),
		},
		Operations: []*pb.Operation{
			{
				Id: "op-1", Kind: pb.OperationKind_OPERATION_KIND_FAILOVER, Server: "hv-06", Phase: "restarting VMs", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING,
				Requested: &pb.Mark{By: "leader hv-03", At: ago(8 * time.Second)}, Progress: &pb.Progress{ItemsDone: 9, ItemsTotal: 14},
			},
			{
				Id: "op-2", Kind: pb.OperationKind_OPERATION_KIND_STOP, Vm: "web-02", Phase: "guest asked", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_RUNNING,
				Requested: &pb.Mark{By: "operator kim", At: ago(30 * time.Second), Why: "new kernel"}, RequestId: "cli-1",
			},
			{
				Id: "op-3", Kind: pb.OperationKind_OPERATION_KIND_START, Vm: "batch-3", Phase: "failed", Outcome: pb.OperationOutcome_OPERATION_OUTCOME_FAILED,
				Requested: &pb.Mark{By: "operator kim", At: ago(20 * time.Minute)}, Finished: ago(19 * time.Minute), Error: "QEMU on hv-04 ended with status 1",
			},
		},
	}
	s.Servers[2].Leader = true
	s.Servers[1].Server.InboundLock = true
	s.Servers[1].Server.InboundLockMark = &pb.Mark{By: "operator kim", At: ago(2 * time.Hour), Why: "SAN work"}
	s.Servers[3].Member.EtcdVoter, s.Servers[4].Member.EtcdVoter, s.Servers[5].Member = false, false, nil
	s.Servers[5].Reason = "its lease expired; fencing by guard, 2 s to go"
	s.Vms[2].Vm.Ha, s.Vms[2].Protected = false, false
	s.Vms[3].Vm.Ha, s.Vms[3].Protected = false, false
	s.Vms[1].Vm.Priority = pb.Priority_PRIORITY_HIGH
	for i, e := range []struct {
		ago                    time.Duration
		kind, server, vm, text string
	}{
		{26 * time.Hour, "POOL_SET", "", "", "operator kim set tolerate=1 on the pool"},
		{10 * time.Second, "SERVER_LOST", "hv-06", "", "hv-06 lost: its lease expired"},
		{9 * time.Second, "SERVER_FENCED", "hv-06", "", "hv-06 fenced: guard armed, deadline passed"},
		{8 * time.Second, "VM_RESTARTED", "hv-05", "web-08", "web-08 is started on hv-05, as hv-06 was fenced; of 3 servers that fit it has the most free memory"},
		{3 * time.Second, "VM_STOP_ASKED", "", "web-02", "operator kim asked to stop web-02"},
	} {
		s.Events = append(s.Events, &pb.Event{
			Id: fmt.Sprintf("e%04d", i), At: ago(e.ago), Kind: e.kind, Server: e.server, Vm: e.vm, Actor: "leader hv-03", Text: e.text,
		})
	}
	return s
}
