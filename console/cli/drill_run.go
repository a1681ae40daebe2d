package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// drillRun is one drill on its way.
type drillRun struct {
	*app
	session *session
	options drillOptions
	plan    drillPlan
	watch   *poolWatch
	report  drillReport
	canary  string
	// isolated is a server whose isolation is to be ended.
	isolated string
}

// play makes the canary, plays the levels and removes it, and returns the exit code.
func (d *drillRun) play(ctx context.Context) int {
	made, err := d.session.drills.CreateCanary(ctx, &pb.CreateCanaryRequest{Server: d.plan.server, Directory: d.options.storage,
		RequestId: requestID(""), Why: d.options.why})
	if err != nil {
		report(d.env.Err, "", err)
		d.report.Failure = err.Error()
		return Code(err)
	}
	d.canary = made.GetVm().GetVm().GetId()
	d.report.Canary, d.report.Disk, d.report.Notes = d.canary, made.GetDisk(), made.GetNotes()
	d.complain("canary %s, its disk %s", d.canary, made.GetDisk())
	if err := d.begin(ctx); err != nil {
		report(d.env.Err, d.canary, err)
		d.report.Failure = err.Error()
		return worse(ExitFailed, d.end(ctx))
	}
	return worse(d.levels(ctx), d.end(ctx))
}

// begin waits until the canary runs and is protected, and frees it from the server that it began on.
func (d *drillRun) begin(ctx context.Context) error {
	failed := ""
	_, err := d.watch.until(ctx, d.canary+" runs and is protected", canaryStarts, func(st *state) bool {
		v := st.vms[d.canary]
		if v.GetStatus() == pb.VMStatus_VM_STATUS_FAILED { // it is not tried again
			failed = v.GetReason()
			return true
		}
		return canaryRuns(v) && v.GetProtected() && v.GetClaim().GetArmed()
	})
	if failed != "" {
		return fmt.Errorf("it does not start: %s", failed)
	}
	if err != nil || d.plan.server == "" {
		return err
	}
	_, err = d.session.vms.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: d.canary, Set: map[string]string{"prefer": ""}})
	return err
}

func canaryRuns(v *pb.VMView) bool { return v.GetStatus() == pb.VMStatus_VM_STATUS_RUNNING }

// levels plays each level; the first that fails ends the drill.
func (d *drillRun) levels(ctx context.Context) int {
	code := ExitOK
	for l, why := range d.plan.skipped {
		d.report.Levels = append(d.report.Levels, levelResult{Level: l.String(), Outcome: outcomeSkipped, Why: why})
	}
	play := map[pool.DrillLevel]func(context.Context, *levelResult) error{
		pool.DrillQEMU: d.hitQEMU, pool.DrillAgent: d.hitAgent, pool.DrillIsolation: d.hitIsolation,
	}
	for _, l := range d.plan.levels {
		r := levelResult{Level: l.String(), Began: d.env.Now()}
		err := play[l](ctx, &r)
		d.incident(ctx, &r)
		r.judge(err)
		d.report.Levels = append(d.report.Levels, r)
		d.complain("%s", r.line())
		if r.Outcome != outcomeOK {
			code = ExitFailed
		}
		if err != nil {
			break
		}
	}
	return code
}

// hit sends a hit, and notes when it began, where, and what it may take.
func (d *drillRun) hit(ctx context.Context, r *levelResult, l pool.DrillLevel) (before *pb.VMView, facts *pb.CanaryFacts, err error) {
	var watchdog, ttl time.Duration
	_, err = d.watch.until(ctx, d.canary+" runs", canaryStarts, func(st *state) bool {
		before = st.vms[d.canary]
		ttl = st.pool.GetConfig().GetLeaseTtl().AsDuration()
		watchdog = st.servers[before.GetClaim().GetServer()].GetMember().GetWatchdog().AsDuration()
		return canaryRuns(before) && before.GetClaim().GetArmed()
	})
	if err != nil {
		return nil, nil, err
	}
	timing, err := pool.NewTiming(ttl)
	if err != nil {
		return nil, nil, err
	}
	r.Server, r.budget = before.GetClaim().GetServer(), timing.DrillBudget(l, watchdog)
	req := &pb.HitCanaryRequest{Canary: d.canary, Server: r.Server, Level: pb.DrillLevel(l), BesideOthers: d.options.besideOthers, //nolint:gosec // three levels
		CutPower: d.options.cutPower, RequestId: requestID(""), Why: d.options.why}
	if l == pool.DrillIsolation {
		req.Limit = durationpb.New(drillLimit + drillEnd)
		d.isolated = r.Server
	}
	r.hit = time.Now()
	resp, err := d.session.drills.HitCanary(ctx, req)
	return before, resp.GetBefore(), err
}

// hitQEMU ends the canary's process: it must run again.
func (d *drillRun) hitQEMU(ctx context.Context, r *levelResult) error {
	before, _, err := d.hit(ctx, r, pool.DrillQEMU)
	if err != nil {
		return err
	}
	epoch := before.GetClaim().GetEpoch()
	at, err := d.watch.until(ctx, "the pool sees that "+d.canary+" has ended", drillLimit, func(st *state) bool {
		v := st.vms[d.canary]
		return !canaryRuns(v) || v.GetClaim().GetEpoch() > epoch
	})
	if err != nil {
		return err
	}
	r.took("detected", at, r.budget.Detected)
	at, err = d.watch.until(ctx, d.canary+" runs again", drillLimit, func(st *state) bool {
		v := st.vms[d.canary]
		r.To = v.GetClaim().GetServer()
		return canaryRuns(v) && v.GetClaim().GetEpoch() > epoch
	})
	if err == nil {
		r.took("runs again", at, r.budget.Recovered)
	}
	return err
}

// hitAgent ends the agent of the canary's server: it must come back with its session, and the canary run on.
func (d *drillRun) hitAgent(ctx context.Context, r *levelResult) error {
	_, before, err := d.hit(ctx, r, pool.DrillAgent)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, drillLimit)
	defer cancel()
	for {
		resp, err := d.session.drills.GetCanary(ctx, &pb.GetCanaryRequest{Canary: d.canary, Server: r.Server})
		now := resp.GetFacts()
		if err == nil && !now.GetAgentSince().AsTime().Equal(before.GetAgentSince().AsTime()) && now.GetSession() != 0 {
			r.took("agent is back", time.Now(), r.budget.Recovered)
			r.To = r.Server
			switch {
			case now.GetProcess() != before.GetProcess() || now.GetProcessStarted() != before.GetProcessStarted():
				return fmt.Errorf("%s did not run on: its process was %d, now %d", d.canary, before.GetProcess(), now.GetProcess())
			case now.GetSession() != before.GetSession():
				return fmt.Errorf("%s lost its session: it was %d, now %d", r.Server, before.GetSession(), now.GetSession())
			}
			return nil
		}
		if !waitFor(ctx, drillLook) {
			return fmt.Errorf("the agent of %s did not come back: systemctl status holdfast-agent there (%w)", r.Server, firstOf(err, ctx.Err()))
		}
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// hitIsolation closes a server's way to etcd: the canary must be stopped there, and then run elsewhere.
func (d *drillRun) hitIsolation(ctx context.Context, r *levelResult) error {
	var session int64
	if _, err := d.watch.until(ctx, d.canary+" runs", canaryStarts, func(st *state) bool {
		v := st.vms[d.canary]
		session = st.servers[v.GetClaim().GetServer()].GetSession()
		r.Server = v.GetClaim().GetServer()
		return canaryRuns(v)
	}); err != nil {
		return err
	}
	// What is to be seen is asked of another agent.
	d.watch.leave(r.Server)
	if _, err := d.watch.until(ctx, "another agent than that of "+r.Server+" answers; name more than one with --agents", canaryStarts, func(st *state) bool { return st.servedBy != r.Server }); err != nil {
		return err
	}
	if _, _, err := d.hit(ctx, r, pool.DrillIsolation); err != nil {
		return err
	}
	stopped := make(chan time.Time, 1)
	go d.untilStopped(ctx, r.Server, stopped)
	server := r.Server
	for _, step := range []struct {
		name   string
		budget time.Duration
		f      func(*state) bool
	}{
		{"detected", r.budget.Detected, func(st *state) bool {
			v := st.servers[server]
			return v.GetSession() != session || slices.Contains(v.GetStates(), pb.ServerState_SERVER_STATE_LOST)
		}},
		{"fenced", r.budget.Fenced, func(st *state) bool {
			return st.servers[server].GetFence().GetSession() >= session || st.vms[d.canary].GetClaim().GetServer() != server
		}},
		{"runs again", r.budget.Recovered, func(st *state) bool {
			v := st.vms[d.canary]
			r.To = v.GetClaim().GetServer()
			return canaryRuns(v) && r.To != server
		}},
	} {
		at, err := d.watch.until(ctx, "isolated "+server+": "+step.name, drillLimit, step.f)
		if err != nil {
			return err
		}
		r.took(step.name, at, step.budget)
	}
	again := time.Now()
	select {
	case at := <-stopped:
		r.took("stopped there", at, r.budget.Stopped)
		if at.After(again.Add(drillLook)) { // it is looked at that often
			return fmt.Errorf("%s was seen stopped on %s only after it ran on %s", d.canary, server, r.To)
		}
	case <-time.After(time.Second):
		return fmt.Errorf("%s was not seen to stop on %s", d.canary, server)
	}
	return d.mend(ctx)
}

// untilStopped asks the isolated server itself, by way of another, until the canary's process is gone there.
func (d *drillRun) untilStopped(ctx context.Context, server string, stopped chan<- time.Time) {
	ctx, cancel := context.WithTimeout(ctx, drillLimit)
	defer cancel()
	for {
		resp, err := d.session.drills.GetCanary(ctx, &pb.GetCanaryRequest{Canary: d.canary, Server: server})
		if err == nil && resp.GetFacts().GetProcess() == 0 {
			stopped <- time.Now()
			return
		}
		if !waitFor(ctx, drillLook/2) {
			return
		}
	}
}

// mend ends an isolation and waits until the server is back.
func (d *drillRun) mend(ctx context.Context) error {
	if d.isolated == "" {
		return nil
	}
	_, err := d.session.drills.HitCanary(ctx, &pb.HitCanaryRequest{Canary: d.canary, Server: d.isolated, Level: pb.DrillLevel_DRILL_LEVEL_ISOLATION,
		RequestId: requestID(""), Why: d.options.why})
	if err != nil && !d.options.cutPower { // without power nobody answers there
		return fmt.Errorf("the isolation of %s goes on for %v at most: %w", d.isolated, drillLimit+drillEnd, err)
	}
	server := d.isolated
	d.isolated = ""
	_, err = d.watch.until(ctx, server+" is back", drillEnd, func(st *state) bool {
		return slices.Contains(st.servers[server].GetStates(), pb.ServerState_SERVER_STATE_UP)
	})
	return err
}

// end undoes what the drill has made, also after an interrupt.
func (d *drillRun) end(ctx context.Context) int {
	if ctx.Err() != nil {
		d.complain("interrupted: removing %s", d.canary)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drillEnd)
	defer cancel()
	code := ExitOK
	if d.isolated != "" {
		// The watch has ended with an interrupt: the call alone must do.
		_, err := d.session.drills.HitCanary(ctx, &pb.HitCanaryRequest{Canary: d.canary, Server: d.isolated, Level: pb.DrillLevel_DRILL_LEVEL_ISOLATION})
		if err != nil {
			report(d.env.Err, d.isolated, err)
			code = ExitFailed
		}
	}
	if _, err := d.session.drills.RemoveCanary(ctx, &pb.RemoveCanaryRequest{Canary: d.canary, RequestId: requestID(""), Why: d.options.why}); err != nil {
		report(d.env.Err, d.canary, err)
		d.complain("%s is left behind; to remove it: holdfast drill clean", d.canary)
		d.report.Failure = d.canary + " is left behind: " + err.Error()
		return worse(code, ExitFailed)
	}
	return code
}

// incident finds the pool's own record of what happened.
func (d *drillRun) incident(ctx context.Context, r *levelResult) {
	if r.Level == pool.DrillAgent.String() {
		return
	}
	resp, err := d.session.events.ListIncidents(ctx, &pb.ListIncidentsRequest{Vm: d.canary, Limit: 1})
	if err != nil || len(resp.GetIncidents()) == 0 {
		return // the record may come later; what was measured stands without
	}
	i := resp.GetIncidents()[0]
	r.Incident = i.GetId()
	for _, s := range i.GetServers() {
		if s.GetServer() == r.Server {
			r.Proof, r.Evidence = word(s.GetProof()), s.GetEvidence()
		}
	}
}
