package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	holdfastv1 "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// Rotation exchanges the pool's CA, from any one server. It remembers nothing: each call asks every server how it stands
// and goes on from there, so it can be cut off anywhere and begun again anywhere. A phase begins only when every server has
// confirmed the one before.
type Rotation struct {
	Clock clock.Clock
	// Servers lists all servers of the pool, this one included, and its witnesses.
	Servers func(ctx context.Context) (servers []pool.ServerID, witnesses []string, err error)
	// Ask has one server do a step.
	Ask func(ctx context.Context, server pool.ServerID, r *holdfastv1.ChangeAuthorityRequest) (*holdfastv1.ChangeAuthorityResponse, error)
	// Voters reports whether every member of the pool's etcd answers; nil if they do.
	Voters func(ctx context.Context) error
	// Make makes the next CA, introduced by the present one.
	Make func() (*pki.Authority, error)
	// Introducing reports whether the present CA can introduce another one; see pki.Authority.
	Introducing func() (bool, error)
	// Say tells a person what was done; Note leaves it in the pool's history.
	Say  func(format string, args ...any)
	Note func(ctx context.Context, kind, text string) error
}

// Limits of waiting for one server's etcd to come back.
const (
	reloadLimit = time.Minute
	reloadPoll  = 250 * time.Millisecond
)

// standings is how all servers stand, by name.
type standings struct {
	servers []pool.ServerID
	of      map[pool.ServerID]*holdfastv1.ChangeAuthorityResponse
}

// ask collects how all servers stand. A pool with one that does not answer goes no further.
func (r Rotation) ask(ctx context.Context) (standings, error) {
	servers, witnesses, err := r.Servers(ctx)
	if err != nil {
		return standings{}, err
	}
	if len(witnesses) > 0 {
		return standings{}, pool.Refuse("WITNESS", "take its vote to a server, or put the new CA in place by hand: docs/security.md, \"Rotation\"",
			"nobody can be asked on a witness (%s) to trust another CA", strings.Join(witnesses, ", "))
	}
	all := standings{servers: servers, of: map[pool.ServerID]*holdfastv1.ChangeAuthorityResponse{}}
	var silent []string
	for _, s := range servers {
		a, err := r.Ask(ctx, s, &holdfastv1.ChangeAuthorityRequest{})
		if err != nil {
			silent = append(silent, fmt.Sprintf("%s (%v)", s, err))
			continue
		}
		all.of[s] = a
	}
	if len(silent) > 0 {
		return standings{}, pool.Refuse("SERVERS_AWAY", "bring them back, or take them out with holdfast remove-server SERVER, and run this command again; meanwhile the pool works as it is",
			"every server must confirm each phase, and these do not answer: %s", strings.Join(silent, "; "))
	}
	return all, nil
}

// target returns the CA that the servers are on the way to; "" if there is none.
func (s standings) target() (string, error) {
	var found []string
	for _, id := range s.servers {
		certs, err := pki.ParseChain(s.of[id].GetTrusted())
		if err != nil {
			return "", fmt.Errorf("%s: %w", id, err)
		}
		for _, pin := range pki.Introduced(certs) {
			if s.of[id].GetSigns() == pin {
				return pin, nil
			}
			found = append(found, pin)
		}
	}
	if len(found) == 0 {
		return "", nil
	}
	return slices.Min(found), nil
}

// trusts returns the CAs that a server trusts.
func (s standings) trusts(id pool.ServerID) []string {
	certs, err := pki.ParseChain(s.of[id].GetTrusted())
	if err != nil {
		return nil
	}
	return pki.Pins(certs)
}

// missing lists the servers for which ok is false.
func (s standings) missing(ok func(pool.ServerID, *holdfastv1.ChangeAuthorityResponse) bool) []pool.ServerID {
	var out []pool.ServerID
	for _, id := range s.servers {
		if !ok(id, s.of[id]) {
			out = append(out, id)
		}
	}
	return out
}

// Rotate moves the pool to a new CA that every server trusts beside the old one, and by which every server signs. Drop ends
// it. Errors: a *pool.Refusal that names the servers that do not answer; whatever a step meets.
func (r Rotation) Rotate(ctx context.Context) error {
	all, err := r.ask(ctx)
	if err != nil {
		return err
	}
	next, err := r.begin(ctx, all)
	if err != nil {
		return err
	}
	fresh, err := r.trustAll(ctx, next)
	if err != nil {
		return err
	}
	introducing, err := r.Introducing()
	if err != nil {
		return err
	}
	if fresh && !introducing {
		r.Say("Every server trusts the new CA beside the old one. The old one is too old to introduce it to operators: have each run\n  holdfast login --renew\nand then run this command again.")
		return nil
	}
	if err := r.issueAll(ctx, next); err != nil {
		return err
	}
	r.Say("Every server signs by the new CA %s.\nNext: each operator runs `holdfast login --renew`, which makes a certificate of the new CA;\nthen `holdfast-agent ca drop` on a server: certificates of the old CA are refused from then on.", next.Pin())
	return nil
}

// begin makes the next CA, or gets the one that the servers are on the way to from one of them.
func (r Rotation) begin(ctx context.Context, all standings) (*pki.Authority, error) {
	pin, err := all.target()
	if err != nil {
		return nil, err
	}
	if pin == "" {
		next, err := r.Make()
		if err != nil {
			return nil, err
		}
		r.Say("The new CA is %s.", next.Pin())
		return next, r.Note(ctx, "CA_CHANGES", fmt.Sprintf("the pool's CA is exchanged for %s", next.Pin()))
	}
	r.Say("The exchange for the CA %s goes on.", pin)
	for _, id := range all.servers {
		a := all.of[id]
		if a.GetSigns() != pin && a.GetNext() != pin {
			continue
		}
		a, err := r.Ask(ctx, id, &holdfastv1.ChangeAuthorityRequest{Authority: pin, WantKey: true})
		if err != nil {
			return nil, err
		}
		if len(a.GetKey()) > 0 {
			return pki.ParseAuthority(a.GetCa(), a.GetKey())
		}
	}
	return nil, pool.Refuse("AUTHORITY_LOST", "ask each server's root for ca.key.next below its state folder", "no server has the key of the CA %s", pin)
}

// trustAll has every server, and every member of etcd, trust next. fresh: some did not before.
func (r Rotation) trustAll(ctx context.Context, next *pki.Authority) (fresh bool, err error) {
	for {
		all, err := r.ask(ctx) // also whoever joined meanwhile
		if err != nil {
			return fresh, err
		}
		waiting := all.missing(func(id pool.ServerID, a *holdfastv1.ChangeAuthorityResponse) bool {
			return a.GetSigns() == next.Pin() || a.GetNext() == next.Pin()
		})
		if len(waiting) == 0 {
			if err := r.reloadAll(ctx, all, func(pins []string, _ pool.ServerID) bool { return slices.Contains(pins, next.Pin()) }); err != nil || !fresh {
				return fresh, err
			}
			return fresh, r.Note(ctx, "CA_TRUSTED", fmt.Sprintf("every server trusts the CA %s beside the one before", next.Pin()))
		}
		for _, id := range waiting {
			if err := r.step(ctx, id, holdfastv1.AuthorityStep_AUTHORITY_STEP_TRUST, next); err != nil {
				return fresh, err
			}
			fresh = true
			r.Say("%s trusts it.", id)
		}
	}
}

// issueAll has every server sign by next.
func (r Rotation) issueAll(ctx context.Context, next *pki.Authority) error {
	done := false
	for {
		all, err := r.ask(ctx)
		if err != nil {
			return err
		}
		waiting := all.missing(func(_ pool.ServerID, a *holdfastv1.ChangeAuthorityResponse) bool {
			return a.GetSigns() == next.Pin() && a.GetCertificate() == next.Pin()
		})
		if len(waiting) == 0 {
			if !done {
				return nil
			}
			return r.Note(ctx, "CA_SIGNS", fmt.Sprintf("every server signs by the CA %s", next.Pin()))
		}
		for _, id := range all.servers {
			if !slices.Contains(all.trusts(id), next.Pin()) {
				return fmt.Errorf("%s joined just now and does not trust the new CA; run this command again: %w", id, pool.ErrStale)
			}
		}
		for _, id := range waiting {
			if err := r.step(ctx, id, holdfastv1.AuthorityStep_AUTHORITY_STEP_ISSUE, next); err != nil {
				return err
			}
			done = true
			r.Say("%s signs by it.", id)
		}
	}
}

func (r Rotation) step(ctx context.Context, id pool.ServerID, step holdfastv1.AuthorityStep, next *pki.Authority) error {
	pair, err := next.PEM()
	if err != nil {
		return err
	}
	_, err = r.Ask(ctx, id, &holdfastv1.ChangeAuthorityRequest{Step: step, Authority: next.Pin(), Ca: pair.Cert, Key: pair.Key})
	if err != nil {
		return fmt.Errorf("%w; run this command again", err)
	}
	return nil
}

// Drop has every server trust the present CA alone: what the one before signed is refused from then on.
func (r Rotation) Drop(ctx context.Context) error {
	all, err := r.ask(ctx)
	if err != nil {
		return err
	}
	pin, err := all.target()
	if err != nil {
		return err
	}
	if pin == "" {
		pin = all.of[all.servers[0]].GetSigns() // dropped everywhere already, but perhaps in etcd
	}
	if early := all.missing(func(_ pool.ServerID, a *holdfastv1.ChangeAuthorityResponse) bool {
		return a.GetSigns() == pin && a.GetCertificate() == pin
	}); len(early) > 0 {
		return pool.Refuse("AUTHORITY_IN_USE", "run holdfast-agent ca rotate first", "the old CA is still used by %s", list(early))
	}
	changed := false
	for _, id := range all.servers {
		if slices.Equal(all.trusts(id), []string{pin}) {
			continue
		}
		if _, err := r.Ask(ctx, id, &holdfastv1.ChangeAuthorityRequest{Step: holdfastv1.AuthorityStep_AUTHORITY_STEP_DROP, Authority: pin}); err != nil {
			return fmt.Errorf("%w; run this command again", err)
		}
		changed = true
		r.Say("%s trusts %s alone.", id, pin)
	}
	if all, err = r.ask(ctx); err != nil {
		return err
	}
	if err := r.reloadAll(ctx, all, func(pins []string, _ pool.ServerID) bool { return slices.Equal(pins, []string{pin}) }); err != nil {
		return err
	}
	if !changed {
		r.Say("Every server trusts %s alone.", pin)
		return nil
	}
	return r.Note(ctx, "CA_DROPPED", fmt.Sprintf("the CA %s is the only one that the pool trusts", pin))
}

// reloadAll has the members of etcd take up whom their servers trust, one after the other: each only while all others
// answer.
func (r Rotation) reloadAll(ctx context.Context, all standings, ok func(pins []string, id pool.ServerID) bool) error {
	for _, id := range all.servers {
		a := all.of[id]
		if !a.GetEtcdRuns() || ok(a.GetEtcdTrusted(), id) {
			continue
		}
		if err := r.untilVotersAnswer(ctx, "before "+string(id)); err != nil {
			return err
		}
		if _, err := r.Ask(ctx, id, &holdfastv1.ChangeAuthorityRequest{Step: holdfastv1.AuthorityStep_AUTHORITY_STEP_RELOAD}); err != nil {
			return fmt.Errorf("%w; run this command again", err)
		}
		if err := r.until(ctx, func() error {
			a, err := r.Ask(ctx, id, &holdfastv1.ChangeAuthorityRequest{})
			if err == nil && (!a.GetEtcdRuns() || !ok(a.GetEtcdTrusted(), id)) {
				err = fmt.Errorf("holdfast-etcd on %s does not take up whom it trusts: see journalctl -u holdfast-etcd there: %w", id, pool.ErrUnavailable)
			}
			return err
		}); err != nil {
			return err
		}
		if err := r.untilVotersAnswer(ctx, "after "+string(id)); err != nil {
			return err
		}
		r.Say("etcd on %s knows it.", id)
	}
	return nil
}

func (r Rotation) untilVotersAnswer(ctx context.Context, when string) error {
	return r.until(ctx, func() error {
		if err := r.Voters(ctx); err != nil {
			return fmt.Errorf("etcd is restarted one member at a time, and %s not all members answer: %w", when, err)
		}
		return nil
	})
}

// until repeats a question until it is answered well, or for a minute.
func (r Rotation) until(ctx context.Context, ask func() error) error {
	ctx, cancel := r.Clock.WithTimeout(ctx, reloadLimit)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if serr := r.Clock.Sleep(ctx, reloadPoll); serr != nil {
			return errors.Join(err, serr)
		}
	}
}

// Status says how each server stands, one line each.
func (r Rotation) Status(ctx context.Context) error {
	all, err := r.ask(ctx)
	if err != nil {
		return err
	}
	for _, id := range all.servers {
		a := all.of[id]
		member := "no member of etcd runs there"
		if a.GetEtcdRuns() {
			member = "etcd trusts " + strings.Join(a.GetEtcdTrusted(), ", ")
		}
		r.Say("%s: signs by %s; trusts %s; %s", id, a.GetSigns(), strings.Join(all.trusts(id), ", "), member)
	}
	pin, err := all.target()
	if err != nil || pin == "" {
		return err
	}
	r.Say("An exchange for %s is under way: run `holdfast-agent ca rotate`, then `holdfast-agent ca drop`.", pin)
	return nil
}

func list(ids []pool.ServerID) string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return strings.Join(out, ", ")
}
