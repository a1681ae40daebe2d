package plan

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// RecordIncident writes the record of an outage; see Incidents.
const RecordIncident Kind = "record-incident"

// Bounds of the records of incidents.
const (
	// IncidentsKept is how many records the pool keeps.
	IncidentsKept = 100
	// incidentVMs is how many VMs one record has room for, about 400 kB; the others are in another one.
	incidentVMs = 1000
	// sameOutage is how long after an incident's last step another failure still belongs to it.
	sameOutage = 30 * time.Second
	// lookBack is how far back the history is searched for restarts that no record tells of: longer than any pool is
	// without a leader, short enough to be cheap.
	lookBack = 15 * time.Minute
	// incidentPace is how long a record that only grows is left alone after it was written.
	incidentPace = 2 * time.Second
)

// Incidents returns what is to be written about outages, and when to ask again. It follows from the input's snapshot and
// wall clock alone: alerts, fences, claims, states and the history say what happened, so that a new leader goes on where
// the last one stopped. Ask only when Plan has nothing left to do: nothing here is as urgent as a recovery.
//
// A record begins when a server is lost with protected VMs on it, or its power is about to be cut; or when a restart by
// HA is in the history that no record tells of. It ends when every VM in it is settled. Servers that are lost within
// the same outage share one record.
func Incidents(in Input) Result {
	c := &chronicle{in: in, snap: in.Snapshot, timing: timing(in.Snapshot.Config)}
	c.troubled = c.trouble()
	if !in.Snapshot.Roster.Lets(in.Leader.Server) {
		return c.out
	}
	c.load()
	c.read()
	c.lost()
	c.restarts()
	for _, r := range c.records {
		c.follow(r)
	}
	c.write()
	c.trim()
	return c.out
}

// chronicle holds the records while they are brought up to date.
type chronicle struct {
	in     Input
	snap   *pool.Snapshot
	timing pool.Timing
	// records are those that may change, oldest first.
	records []*record
	// troubled are the servers that are lost or fenced, or whose power is being cut.
	troubled map[pool.ServerID]bool
	// lines are the lines of the recent history that matter here, oldest first.
	lines []pool.Event
	out   Result
}

// record is an incident and how it was stored; was.ID is empty for a new one.
type record struct {
	pool.Incident
	was pool.Incident
}

// load takes the records that may still change.
func (c *chronicle) load() {
	for _, i := range c.snap.Incidents.All() {
		if i.Open() || c.in.Wall.Sub(i.Ended) < lookBack || slices.ContainsFunc(i.Servers, func(s pool.IncidentServer) bool { return s.Back.IsZero() }) {
			r := &record{Incident: i, was: i}
			r.Servers, r.VMs = slices.Clone(i.Servers), slices.Clone(i.VMs)
			c.records = append(c.records, r)
		}
	}
}

// read takes the lines of history that tell of servers and VMs that failed.
func (c *chronicle) read() {
	from := pool.EventID(c.in.Wall.Add(-lookBack).UTC().Format("20060102T150405.000000"))
	for _, e := range c.snap.Events.From(from) {
		switch e.Kind {
		case "SERVER_SUSPECT", "SERVER_LOST", "SERVER_BACK", "SERVER_FENCED", "SERVER_CONFIRMED_FENCED", "VM_RESTARTED", "VM_ASSIGNED", "VM_ENDED":
			c.lines = append(c.lines, e)
		}
	}
}

// lost begins records of servers that went down, or are being switched off, with protected VMs.
func (c *chronicle) lost() {
	if len(c.troubled) == 0 {
		return
	}
	owed, left := map[pool.ServerID][]pool.Claim{}, map[pool.ServerID][]pool.Claim{}
	for vm, claim := range pool.Join(c.snap.VMs, c.snap.Claims) {
		if vm == nil || claim == nil || !c.troubled[claim.Server] || !mayRun(*claim) || !vm.Readable() || c.backSince(claim.Server, claim.Session) {
			continue
		}
		switch {
		case c.snap.Protected(*vm):
			owed[claim.Server] = append(owed[claim.Server], *claim)
		case vm.Desired == pool.DesiredRunning:
			left[claim.Server] = append(left[claim.Server], *claim)
		}
	}
	if len(owed) == 0 {
		return
	}
	told := c.told()
	for _, id := range slices.Sorted(maps.Keys(owed)) {
		begun := false
		for _, claim := range owed[id] {
			if !told[loss{claim.VM, id, claim.Epoch}] {
				c.add(id, claim, pool.RecoveryPending)
				begun = true
			}
		}
		for _, claim := range left[id] {
			if begun && !told[loss{claim.VM, id, claim.Epoch}] {
				c.add(id, claim, pool.RecoveryLeft)
			}
		}
	}
}

// trouble lists the servers that are lost or fenced, or whose power is being cut.
func (c *chronicle) trouble() map[pool.ServerID]bool {
	trouble := map[pool.ServerID]bool{}
	for _, a := range c.snap.Alerts.All() {
		s, _ := c.snap.Servers.Get(a.Server)
		if a.Kind == AlertServerLost || a.Kind == AlertSuspect && len(s.Fence) > 0 {
			trouble[a.Server] = true
		}
	}
	for id, f := range c.snap.Fences.All() {
		if f.Proof != pool.ProofNone {
			trouble[id] = true
		}
	}
	delete(trouble, "")
	return trouble
}

// backSince reports whether the server is up under a later session.
func (c *chronicle) backSince(id pool.ServerID, session pool.Session) bool {
	m, up := c.snap.Members.Get(id)
	return up && m.Session > session
}

// loss is what a VM's entry in a record tells of.
type loss struct {
	vm    pool.VMID
	from  pool.ServerID
	epoch pool.Epoch
}

// told returns the losses that are on record.
func (c *chronicle) told() map[loss]bool {
	told := map[loss]bool{}
	for _, i := range c.snap.Incidents.All() {
		for _, v := range i.VMs {
			told[loss{v.VM, v.From, v.Epoch}] = true
		}
	}
	return told
}

// add notes a VM that was lost with its server.
func (c *chronicle) add(id pool.ServerID, claim pool.Claim, how pool.Recovery) {
	r := c.recordOf(id, true)
	s := c.server(r, id, claim.Session)
	v := pool.IncidentVM{VM: claim.VM, From: id, Epoch: claim.Epoch, Down: s.LastSign, Cause: fmt.Sprintf("%s was lost", id), Recovery: how}
	if how == pool.RecoveryLeft {
		v.Waited = []string{"HA is off for it"}
	}
	r.VMs = append(r.VMs, v)
}

// recordOf returns the record that a failure of the server's belongs to, new if need be. whole: the server itself was
// lost, so that other servers' losses of the moment are the same outage.
func (c *chronicle) recordOf(id pool.ServerID, whole bool) *record {
	for _, r := range slices.Backward(c.records) {
		if len(r.VMs) >= incidentVMs || c.in.Wall.Sub(lastStep(r.Incident)) > sameOutage {
			continue
		}
		same := func(s pool.IncidentServer) bool { return s.Server == id }
		from := func(v pool.IncidentVM) bool { return v.From == id }
		if whole && len(r.Servers) > 0 || slices.ContainsFunc(r.Servers, same) || slices.ContainsFunc(r.VMs, from) {
			return r
		}
	}
	r := &record{Incident: pool.Incident{Began: c.in.Wall}}
	c.records = append(c.records, r)
	return r
}

// lastStep is when the latest step of an incident was.
func lastStep(i pool.Incident) time.Time {
	last := i.Began
	later := func(at time.Time) {
		if at.After(last) {
			last = at
		}
	}
	later(i.Ended)
	for _, s := range i.Servers {
		later(s.Lost)
		later(s.Fenced)
	}
	for _, v := range i.VMs {
		later(v.Assigned)
		later(v.Started)
	}
	return last
}

// server returns the record's entry for a server, new if need be, up to date.
func (c *chronicle) server(r *record, id pool.ServerID, session pool.Session) *pool.IncidentServer {
	n := slices.IndexFunc(r.Servers, func(s pool.IncidentServer) bool { return s.Server == id && (s.Back.IsZero() || s.Session >= session) })
	if n < 0 {
		n = len(r.Servers)
		r.Servers = append(r.Servers, pool.IncidentServer{Server: id})
	}
	s := &r.Servers[n]
	s.Session = max(s.Session, session)
	c.followServer(s)
	return s
}

// followServer fills in what is known of a server by now.
func (c *chronicle) followServer(s *pool.IncidentServer) {
	if m, up := c.snap.Members.Get(s.Server); up && m.Session > s.Session && s.Back.IsZero() {
		s.Back = orNow(m.Since, c.in.Wall)
	}
	if s.Lost.IsZero() && s.Back.IsZero() {
		if a, ok := c.snap.Alerts.Get(pool.AlertID("server-lost-" + string(s.Server))); ok {
			s.Lost = a.Since
		} else {
			s.Lost = c.line("SERVER_LOST", s.Server).At
		}
	}
	if s.Suspected.IsZero() && s.Back.IsZero() {
		s.Suspected = c.line("SERVER_SUSPECT", s.Server).At
	}
	c.followFence(s)
	if s.Proof == pool.ProofPower && !s.Suspected.IsZero() && !s.Lost.Before(s.Fenced) {
		s.Lost = time.Time{} // its power was cut before its lease had ended
	}
	s.LastSign = c.lastSign(*s)
}

// lastSign is the earliest moment at which the server can have failed.
func (c *chronicle) lastSign(s pool.IncidentServer) time.Time {
	var sign time.Time
	for _, at := range []time.Time{before(s.Lost, c.timing.TTL), before(s.Suspected, c.snap.Config.SuspectAfter)} {
		if !at.IsZero() && (sign.IsZero() || at.Before(sign)) {
			sign = at
		}
	}
	if !s.LastSign.IsZero() && (sign.IsZero() || s.LastSign.Before(sign)) {
		sign = s.LastSign
	}
	return orNow(sign, c.in.Wall)
}

func orNow(at, now time.Time) time.Time {
	if at.IsZero() {
		return now
	}
	return at
}

func before(at time.Time, d time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(-d)
}

// followFence notes the first proof of the session, from its record or else from the history.
func (c *chronicle) followFence(s *pool.IncidentServer) {
	if s.Proof != pool.ProofNone {
		return
	}
	if f, ok := c.snap.Fences.Get(s.Server); ok && f.Covers(s.Session) {
		s.Proof, s.Fenced, s.Evidence, s.FencedBy = f.Proof, f.At, brief(f.Evidence), f.By
		return
	}
	e := c.line("SERVER_CONFIRMED_FENCED", s.Server)
	if f := c.line("SERVER_FENCED", s.Server); e.Kind == "" || f.Kind != "" && f.At.Before(e.At) {
		e = f
	}
	if e.Kind == "" {
		return
	}
	s.Proof, s.Fenced, s.Evidence, s.FencedBy = pool.ProofConfirmed, e.At, brief(e.Text), e.Actor
	for p := pool.ProofPower; p <= pool.ProofConfirmed; p++ {
		if strings.Contains(e.Text, fencedBy(s.Server, p)) {
			s.Proof = p
		}
	}
}

// fencedBy is how the history says that a server is fenced.
func fencedBy(id pool.ServerID, p pool.Proof) string {
	return fmt.Sprintf("%s is fenced by %s", id, p)
}

// line returns the latest line of that kind about the server since it was last back.
func (c *chronicle) line(kind string, id pool.ServerID) pool.Event {
	m, _ := c.snap.Members.Get(id) // while it is up: since this session began
	for _, e := range slices.Backward(c.lines) {
		switch {
		case e.Server != id:
		case e.Kind == "SERVER_BACK" || e.At.Before(m.Since):
			return pool.Event{}
		case e.Kind == kind:
			return e
		}
	}
	return pool.Event{}
}

// write returns the records that have changed, those that only grow not too often.
func (c *chronicle) write() {
	for _, r := range c.records {
		c.name(r)
		now := r.Incident
		now.Updated, now.By = r.was.Updated, r.was.By
		if len(r.VMs) == 0 || reflect.DeepEqual(now, r.was) {
			continue
		}
		since := c.in.Wall.Sub(r.was.Updated)
		if r.was.ID != "" && r.Open() && since >= 0 && since < incidentPace {
			c.out.WakeAt = c.in.Now.Add(incidentPace - since)
			continue
		}
		now.Updated, now.By = c.in.Wall, "leader "+string(c.in.Leader.Server)
		c.out.Actions = append(c.out.Actions, Action{Kind: RecordIncident, Key: "incident:" + string(now.ID), Why: now.Why, Change: pool.Change{Incidents: []pool.Incident{now}}})
	}
}

// name gives a record its ID and its sentence.
func (c *chronicle) name(r *record) {
	if len(r.VMs) == 0 {
		return
	}
	var lost []pool.ServerID
	for _, s := range r.Servers {
		if !slices.Contains(lost, s.Server) {
			lost = append(lost, s.Server)
		}
		r.Began = earlier(r.Began, s.LastSign)
	}
	for _, v := range r.VMs {
		r.Began = earlier(r.Began, v.Down)
	}
	subject := string(r.VMs[0].VM)
	switch {
	case len(lost) == 0:
		r.Why = r.VMs[0].Cause
	case len(lost) == 1:
		subject, r.Why = string(lost[0]), fmt.Sprintf("%s was lost with %s", lost[0], count(len(r.VMs), "VM"))
	default:
		subject, r.Why = string(lost[0]), fmt.Sprintf("%s were lost with %s", names(lost), count(len(r.VMs), "VM"))
	}
	if r.ID != "" {
		return
	}
	id := r.Began.UTC().Format("20060102T150405") + "-" + subject
	for n := 2; c.taken(pool.IncidentID(id)); n++ {
		id = fmt.Sprintf("%s-%s-%d", r.Began.UTC().Format("20060102T150405"), subject, n)
	}
	r.ID = pool.IncidentID(id)
}

func (c *chronicle) taken(id pool.IncidentID) bool {
	return c.snap.Incidents.Has(id) || slices.ContainsFunc(c.records, func(r *record) bool { return r.ID == id })
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// trim drops the oldest records beyond those that are kept, in batches. One that may still change stays.
func (c *chronicle) trim() {
	n := excess(c.snap.Incidents.Len(), IncidentsKept)
	var oldest []pool.Incident
	for _, i := range c.snap.Incidents.All() {
		if len(oldest) >= n {
			break
		}
		if !i.Open() && c.in.Wall.Sub(i.Ended) > lookBack {
			oldest = append(oldest, i)
		}
	}
	if len(oldest) > 0 {
		c.out.Actions = append(c.out.Actions, Action{Kind: TrimHistory, Key: "trim-incidents",
			Why: fmt.Sprintf("more than %d incidents: drops the oldest %d", IncidentsKept, len(oldest)), Change: pool.Change{RemoveIncidents: oldest}})
	}
}

// brief cuts a sentence that a record repeats for each of many VMs.
func brief(s string) string {
	const most = 240
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most]) + "..."
}
