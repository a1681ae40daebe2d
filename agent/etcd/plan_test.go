package etcd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

func peer(name string) string { return "https://" + name + ":2380" }

// model is etcd's membership as Plan's actions change it.
type model struct {
	members []Member
	seats   []Seat
	next    uint64
}

// member adds one that has started.
func (w *model) member(name string, learner, healthy bool) {
	w.next++
	w.members = append(w.members, Member{ID: w.next, Name: name, PeerURL: peer(name), Learner: learner, Healthy: healthy})
}

func (w *model) seat(name string, s Standing) {
	w.seats = append(w.seats, Seat{Name: name, PeerURL: peer(name), Witness: strings.HasPrefix(name, "w"), Standing: s})
}

// apply does what etcd and the machines do with an action: a machine that stands fit, leaving or going down starts its member.
func (w *model) apply(t fataler, a Action) {
	switch a.Kind {
	case ActionAdd:
		up := w.standing(a.Seat) <= StandingGoing
		w.next++
		m := Member{ID: w.next, PeerURL: a.PeerURL, Learner: true}
		if up {
			m.Name, m.Healthy = a.Seat, true
		}
		w.members = append(w.members, m)
	case ActionPromote:
		w.members[w.index(t, a.Member)].Learner = false
	case ActionRemove:
		i := w.index(t, a.Member)
		w.members = slices.Delete(w.members, i, i+1)
	case ActionForget:
		w.seats = slices.DeleteFunc(w.seats, func(s Seat) bool { return s.Name == a.Seat })
	}
	if v := voters(w.members); healthy(v) < quorum(len(v)) {
		t.Fatalf("after %v %s: %d of %d voters are healthy", a.Kind, a.Seat, healthy(v), len(v))
	}
}

type fataler interface{ Fatalf(string, ...any) }

func (w *model) standing(name string) Standing {
	for _, s := range w.seats {
		if s.Name == name {
			return s.Standing
		}
	}
	return StandingUnknown
}

func (w *model) index(t fataler, id uint64) int {
	i := slices.IndexFunc(w.members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		t.Fatalf("no member %d", id)
	}
	return i
}

// settle applies plans until nothing is left to do and returns them as text.
func (w *model) settle(t fataler) []string {
	var log []string
	for range 60 {
		a := Plan(w.members, w.seats)
		if a.Kind == ActionNone {
			return log
		}
		log = append(log, a.Kind.String()+" "+a.Seat)
		w.apply(t, a)
	}
	t.Fatalf("no end: %v", log)
	return nil
}

func (w *model) votes() string {
	v := strings.ReplaceAll(labels(voters(w.members)), ", ", " ")
	if l := labels(slices.DeleteFunc(slices.Clone(w.members), func(m Member) bool { return !m.Learner })); l != "" {
		v += " +" + l
	}
	return v
}

// pool builds a settled pool of servers that are all fit, the first of them the founder.
func settled(t *testing.T, names ...string) *model {
	t.Helper()
	w := &model{}
	w.member(names[0], false, true)
	for _, n := range names {
		w.seat(n, StandingFit)
	}
	w.settle(t)
	return w
}

func (w *model) set(name string, s Standing, answers bool) {
	for i := range w.seats {
		if w.seats[i].Name == name {
			w.seats[i].Standing = s
		}
	}
	for i := range w.members {
		if w.members[i].Name == name {
			w.members[i].Healthy = answers
		}
	}
}

func TestVotesFollowTheSizeOfThePool(t *testing.T) {
	for names, want := range map[string]string{
		"a":             "a",
		"a b":           "a +b",
		"a b w1":        "a b w1",
		"a b c":         "a b c",
		"a b c d":       "a b c",
		"a b c d w1":    "a b w1",
		"a b c d e":     "a b c d e",
		"a b c d e f":   "a b c d e",
		"a b c d e f g": "a b c d e",
	} {
		if got := settled(t, strings.Fields(names)...).votes(); got != want {
			t.Errorf("servers %s: votes %q, want %q", names, got, want)
		}
	}
}

func TestTheThirdServerMakesTwoVotersAtOnce(t *testing.T) {
	w := settled(t, "a")
	w.seat("b", StandingFit)
	if got := strings.Join(w.settle(t), ", "); got != "add learner b" {
		t.Errorf("second server: %s", got)
	}
	w.seat("c", StandingFit)
	if got := strings.Join(w.settle(t), ", "); got != "add learner c, promote b, promote c" {
		t.Errorf("third server: %s", got)
	}
}

func TestVotesMove(t *testing.T) {
	tests := []struct {
		name, pool string
		change     func(w *model)
		steps, end string
	}{
		{"off a server before its maintenance", "a b c d",
			func(w *model) { w.set("b", StandingLeaving, true) }, "add learner d, promote d, remove b", "a c d"},
		{"nowhere if there is no other place", "a b c",
			func(w *model) { w.set("b", StandingLeaving, true) }, "", "a b c"},
		{"not off a server that is merely lost", "a b c d",
			func(w *model) { w.set("b", StandingLost, false) }, "", "a b c"},
		{"off a fenced server, the dead vote first", "a b c d",
			func(w *model) { w.set("b", StandingFenced, false) }, "add learner d, remove b, promote d", "a c d"},
		{"not to a server that is lost itself", "a b c d",
			func(w *model) { w.set("b", StandingFenced, false); w.set("d", StandingLost, false) }, "", "a b c"},
		{"off a removed server", "a b c d",
			func(w *model) { w.set("c", StandingGone, false) }, "remove c, add learner d, promote d, forget seat c", "a b d"},
		{"to one vote when two of three servers are left", "a b c",
			func(w *model) { w.set("c", StandingGone, true) }, "remove c, remove b, add learner b, forget seat c", "a +b"},
		{"to the other of two servers", "a b",
			func(w *model) { w.set("a", StandingLeaving, true) }, "promote b, remove a, add learner a", "b +a"},
		{"to the other of two servers before a reboot", "a b",
			func(w *model) { w.set("a", StandingGoing, true) }, "promote b, remove a, add learner a", "b +a"},
		{"not for a reboot that the others can wait for", "a b c d",
			func(w *model) { w.set("b", StandingGoing, true) }, "", "a b c"},
		{"for a reboot while another voter is lost", "a b c d",
			func(w *model) { w.set("c", StandingLost, false); w.set("b", StandingGoing, true) }, "add learner d, promote d, remove b", "a c d"},
		{"and no copy goes to a server that is switched off in maintenance", "a",
			func(w *model) { w.seat("b", StandingAway) }, "", "a"},
		{"to a witness that joins two servers", "a b",
			func(w *model) { w.seat("w1", StandingFit) }, "add learner w1, promote b, promote w1", "a b w1"},
		{"no vote at all without a quorum", "a b c d",
			func(w *model) { w.set("a", StandingFenced, false); w.set("b", StandingFenced, false) }, "", "a b c"},
		{"back to three when a pool shrinks", "a b c d e",
			func(w *model) { w.set("e", StandingGone, false) }, "remove e, remove d, forget seat e", "a b c"},
		{"around two fenced of five", "a b c d e f g",
			func(w *model) { w.set("a", StandingFenced, false); w.set("b", StandingFenced, false) },
			"add learner f, remove a, remove b, add learner g, promote f, promote g", "c d e f g"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := settled(t, strings.Fields(tt.pool)...)
			tt.change(w)
			var steps []string
			if v := voters(w.members); healthy(v) >= quorum(len(v)) {
				steps = w.settle(t)
			} else if a := Plan(w.members, w.seats); a.Kind != ActionNone {
				t.Fatalf("without quorum: %v", a)
			}
			if got := strings.Join(steps, ", "); got != tt.steps {
				t.Errorf("steps %q, want %q", got, tt.steps)
			}
			if got := w.votes(); got != tt.end {
				t.Errorf("votes %q, want %q", got, tt.end)
			}
		})
	}
}

func TestALearnerThatNeverStartsIsNotPromotedAndSaysWhy(t *testing.T) {
	w := settled(t, "a")
	w.seat("b", StandingFit)
	w.seat("c", StandingFit)
	w.members = append(w.members, Member{ID: 7, PeerURL: peer("b"), Learner: true},
		Member{ID: 8, Name: "c", PeerURL: peer("c"), Learner: true, Healthy: true})
	a := Plan(w.members, w.seats)
	if a.Kind != ActionNone || !strings.Contains(a.Reason, "process of b to start") {
		t.Errorf("plan = %+v", a)
	}
}

func TestALearnerWhoseMachineWasLostBeforeItStartedMakesRoom(t *testing.T) {
	w := settled(t, "a")
	w.seat("b", StandingFit)
	w.members = append(w.members, Member{ID: 7, PeerURL: peer("b"), Learner: true})
	if a := Plan(w.members, w.seats); a.Kind != ActionNone || !strings.Contains(a.Reason, "b to start") {
		t.Errorf("while b is there: %+v", a)
	}
	w.seat("c", StandingFit)
	if a := Plan(w.members, w.seats); a.Kind != ActionNone {
		t.Errorf("c was not kept waiting for b: %+v", a)
	}
	w.set("b", StandingLost, false)
	if got := strings.Join(w.settle(t), ", "); got != "remove b, add learner c" {
		t.Errorf("after b was lost: %s", got)
	}
	if a := Plan(w.members, w.seats); !strings.Contains(a.Reason, "stays odd") {
		t.Errorf("reason %q", a.Reason)
	}
}

func TestAStrangerInTheMemberListIsLeftAlone(t *testing.T) {
	w := settled(t, "a", "b", "c")
	w.member("stranger", false, true)
	if steps := w.settle(t); len(steps) != 0 {
		t.Errorf("steps %v", steps)
	}
}

// Whatever happens to a pool's servers, every single change leaves a healthy majority, planning ends, ends in the
// wanted votes when all is well, and does not depend on the order of its input.
func TestEveryChangeLeavesAHealthyMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &model{}
		n := rapid.IntRange(1, 8).Draw(t, "servers")
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("s%d", i))
		}
		for i := range rapid.IntRange(0, 1).Draw(t, "witnesses") {
			names = append(names, fmt.Sprintf("w%d", i))
		}
		w.member(names[0], false, true)
		for _, name := range names {
			w.seat(name, StandingFit)
		}
		for range rapid.IntRange(0, 12).Draw(t, "events") {
			name := rapid.SampledFrom(names).Draw(t, "who")
			s := Standing(rapid.IntRange(int(StandingFit), int(StandingGone)).Draw(t, "standing"))
			before := slices.Clone(w.members)
			w.set(name, s, s <= StandingLeaving)
			if v := voters(w.members); healthy(v) < quorum(len(v)) {
				w.members = before // the event would have ended quorum; not Plan's doing
				w.set(name, StandingFit, true)
				continue
			}
			for range rapid.IntRange(0, 4).Draw(t, "steps") {
				a := Plan(w.members, w.seats)
				mixed, seats := slices.Clone(w.members), slices.Clone(w.seats)
				rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
				rand.Shuffle(len(seats), func(i, j int) { seats[i], seats[j] = seats[j], seats[i] })
				if b := Plan(mixed, seats); a != b {
					t.Fatalf("order matters: %+v and %+v", a, b)
				}
				w.apply(t, a)
			}
		}
		for i := range w.seats {
			if w.seats[i].Standing != StandingGone {
				w.set(w.seats[i].Name, StandingFit, true)
			}
		}
		for i, m := range w.members {
			if !m.Started() && w.standing(strings.TrimSuffix(strings.TrimPrefix(m.PeerURL, "https://"), ":2380")) == StandingFit {
				w.members[i].Name, w.members[i].Healthy = strings.TrimSuffix(strings.TrimPrefix(m.PeerURL, "https://"), ":2380"), true
			}
		}
		log := w.settle(t)
		wish := Want(w.members, w.seats)
		slices.Sort(wish.Voters)
		got := voters(w.members)
		if labels(got) != strings.Join(wish.Voters, ", ") && len(wish.Voters) > 0 {
			t.Fatalf("votes %s, want %v; steps %v", labels(got), wish.Voters, log)
		}
	})
}

func TestAnEtcdThatCannotLoseAServerIsRefusedNamingItsVoters(t *testing.T) {
	for names, want := range map[string][]string{
		"a":   {"only vote on a", "witness"},
		"a b": {"only vote on a", "b has a copy", "witness"},
	} {
		err := CheckSurvivesLoss(settled(t, strings.Fields(names)...).members)
		if !errors.Is(err, pool.ErrRefused) {
			t.Fatalf("%s: %v, want a refusal", names, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: message %q lacks %q", names, err, w)
			}
		}
	}
	two := &model{}
	two.member("a", false, true)
	two.member("b", false, true)
	if err := CheckSurvivesLoss(two.members); err == nil || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("two voters: %v, want both named", err)
	}
	for _, names := range []string{"a b c", "a b w1", "a b c d e"} {
		if err := CheckSurvivesLoss(settled(t, strings.Fields(names)...).members); err != nil {
			t.Errorf("%s: %v", names, err)
		}
	}
}

func TestAServerGoesDownOnlyIfEtcdGoesOnOrItsVoteCanMove(t *testing.T) {
	tests := []struct {
		name, pool, going string
		change            func(w *model)
		now               bool
		says              []string
	}{
		{"one of three", "a b c", "a", func(*model) {}, true, nil},
		{"the one of two without the vote", "a b", "b", func(*model) {}, true, nil},
		{"the one of two with the vote: it moves first", "a b", "a", func(*model) {}, false, nil},
		{"one of two and a witness", "a b w1", "a", func(*model) {}, true, nil},
		{"one of four while another is lost: it moves first", "a b c d", "a", func(w *model) { w.set("b", StandingLost, false) }, false, nil},
		{"one of three while another is lost", "a b c", "a", func(w *model) { w.set("b", StandingLost, false) }, false, []string{"a, b, c", "b does not answer", "bring b back"}},
		{"the only server", "a", "a", func(*model) {}, false, []string{"votes on a", "witness"}},
		{"a server of a pool whose etcd is elsewhere", "a b c", "x", func(*model) {}, true, nil},
	}
	for _, tt := range tests {
		w := settled(t, strings.Fields(tt.pool)...)
		tt.change(w)
		now, err := GoesOn(w.members, w.seats, nil, tt.going)
		if now != tt.now || (err != nil) != (tt.says != nil) {
			t.Errorf("%s: %v, %v", tt.name, now, err)
		}
		for _, word := range tt.says {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q lacks %q", tt.name, err, word)
			}
		}
	}
}

func TestOfTwoServersThatGoDownTogetherOneSeesTheOther(t *testing.T) {
	snap := &pool.Snapshot{}
	for i, id := range []pool.ServerID{"a", "b", "c", "d"} {
		snap.Servers = snap.Servers.With(id, pool.Server{ID: id, ShuttingDown: id != "c", Revision: pool.Revision(20 - i)})
		if id != "d" {
			snap.Members = snap.Members.With(id, pool.Member{Server: id})
		}
	}
	for id, want := range map[pool.ServerID]string{"a": "b d", "b": "d", "c": "a b d"} {
		if got := strings.Join(GoesFirst(snap, id), " "); got != want {
			t.Errorf("before %s go %q, want %q", id, got, want)
		}
	}
	w := settled(t, "a", "b", "c")
	if now, err := GoesOn(w.members, w.seats, GoesFirst(snap, "a"), "a"); now || err == nil || !strings.Contains(err.Error(), "b does not answer or goes down") {
		t.Errorf("a after b: %v, %v", now, err)
	}
	if now, err := GoesOn(w.members, w.seats, GoesFirst(snap, "b"), "b"); !now || err != nil {
		t.Errorf("b: %v, %v", now, err)
	}
}

func TestAMachineDecidesByTheMemberListAlone(t *testing.T) {
	me := peer("b")
	list := func(ms ...Member) View { return View{Known: true, ClusterID: 1, Members: ms} }
	a := Member{ID: 10, Name: "a", PeerURL: peer("a")}
	unstarted := Member{ID: 20, PeerURL: me, Learner: true}
	started := Member{ID: 20, Name: "b", PeerURL: me}
	data := Local{HasData: true, ClusterID: 1, MemberID: 20}
	running := Local{Running: true, HasData: true, ClusterID: 1, MemberID: 20}
	tests := []struct {
		name  string
		local Local
		view  View
		want  Step
	}{
		{"never called", Local{}, list(a), StepWait},
		{"nobody answers", Local{}, View{}, StepWait},
		{"called", Local{}, list(a, unstarted), StepJoin},
		{"data lost", Local{}, list(a, started), StepLeave},
		{"restarted", data, list(a, started), StepStart},
		{"the whole pool restarts", data, View{}, StepStart},
		{"restarted before it ever ran", data, list(a, unstarted), StepStart},
		{"taken out while down", data, list(a), StepClear},
		{"taken out and called again while down", data, list(a, Member{ID: 30, PeerURL: me, Learner: true}), StepClear},
		{"data of another etcd", Local{HasData: true, ClusterID: 2, MemberID: 20}, list(a, started), StepRefuse},
		{"crashed before noting who it is", Local{HasData: true}, list(a, unstarted), StepStart},
		{"running", running, list(a, started), StepKeep},
		{"running without quorum", running, View{}, StepKeep},
		{"taken out while running", running, list(a), StepClear},
		{"another etcd's answer", running, View{Known: true, ClusterID: 9, Members: []Member{a}}, StepKeep},
	}
	for _, tt := range tests {
		if got, why := Next(me, tt.local, tt.view); got != tt.want || why == "" {
			t.Errorf("%s: %v (%s), want %v", tt.name, got, why, tt.want)
		}
	}
}

func TestAMachinePrefersItsOwnMember(t *testing.T) {
	w := settled(t, "a", "b", "c")
	for i := range w.members {
		w.members[i].ClientURLs = []string{"https://" + w.members[i].Name + ":2379"}
	}
	all := ClientURLs(w.members)
	var own uint64
	for _, m := range w.members {
		if m.Name == "b" {
			own = m.ID
		}
	}
	if got := strings.Join(nearest(all, w.members, own), " "); got != "https://b:2379 https://a:2379 https://c:2379" {
		t.Errorf("order %s", got)
	}
	if got := nearest(all, w.members, 0); !slices.Equal(got, all) {
		t.Errorf("without a member of its own: %v", got)
	}
}

func TestLearnersAndMembersThatNeverRanServeNoClients(t *testing.T) {
	got := ClientURLs([]Member{
		{Name: "a", ClientURLs: []string{"https://a:2379"}}, {Name: "b", Learner: true, ClientURLs: []string{"https://b:2379"}}, {PeerURL: "https://c:2380"},
	})
	if !slices.Equal(got, []string{"https://a:2379"}) {
		t.Errorf("endpoints %v", got)
	}
}
