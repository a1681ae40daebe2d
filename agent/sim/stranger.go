package sim

import (
	"fmt"
	"slices"

	"github.com/holdfast-ha/holdfast/agent/sim/scenario"
	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// stranger is who writes to etcd though nobody but Holdfast should.
const stranger = "a stranger"

// errQuorum: without a quorum nobody writes, a stranger neither.
const errQuorum = errNothing("etcd has no quorum at this moment")

// strange writes ops past every agent and every guard of a transaction.
func (p *Pool) strange(ops ...kv.Op) error {
	if !p.Etcd.Quorum() {
		return errQuorum
	}
	p.Etcd.Write(stranger, ops)
	return nil
}

func (p *Pool) claimOf(st scenario.Statement) (pool.Claim, error) {
	c, ok := p.Snapshot().Claims.Get(pool.VMID(st.VM))
	if !ok {
		return c, errNothing(fmt.Sprintf("%s has no claim at this moment", st.VM))
	}
	return c, nil
}

func (p *Pool) deleteClaim(st scenario.Statement) error {
	if _, err := p.claimOf(st); err != nil {
		return err
	}
	return p.strange(p.Keys.DeleteClaim(pool.VMID(st.VM)))
}

// forgeClaim tells a server to start a VM as a leader would that knew its old server to be harmless.
func (p *Pool) forgeClaim(st scenario.Statement) error { return p.forge(st, pool.PhaseAssigned) }

// forgeHeld says that a server runs a VM already.
func (p *Pool) forgeHeld(st scenario.Statement) error { return p.forge(st, pool.PhaseHeld) }

// forgeRelease says for a VM's owner that it has ended.
func (p *Pool) forgeRelease(st scenario.Statement) error {
	c, err := p.claimOf(st)
	if err != nil {
		return err
	}
	return p.strange(p.Keys.PutClaim(pool.Claim{VM: c.VM, Epoch: c.Epoch, Phase: pool.PhaseUnassigned, Cause: pool.CauseMoved,
		LastServer: c.Server, Since: c.Since, Incarnation: c.Incarnation}))
}

func (p *Pool) forge(st scenario.Statement, phase pool.Phase) error {
	c, err := p.claimOf(st)
	if err != nil {
		return err
	}
	m, ok := p.Snapshot().Members.Get(pool.ServerID(st.Server))
	if !ok {
		return errNothing(fmt.Sprintf("%s is no member at this moment", st.Server))
	}
	return p.strange(p.Keys.PutClaim(pool.Claim{VM: c.VM, Server: m.Server, Session: m.Session, Epoch: c.Epoch + 1, Phase: phase, Armed: phase == pool.PhaseHeld,
		LastServer: c.Server, Since: c.Since, Incarnation: c.Incarnation}))
}

// rollbackClaim writes the claim as it was before its owner changed last.
func (p *Pool) rollbackClaim(st scenario.Statement) error {
	c, ok := p.earlier[pool.VMID(st.VM)]
	if !ok {
		return errNothing(fmt.Sprintf("the owner of %s has not changed yet", st.VM))
	}
	return p.strange(p.Keys.PutClaim(c))
}

func (p *Pool) deleteMember(st scenario.Statement) error {
	if !p.Snapshot().Members.Has(pool.ServerID(st.Server)) {
		return errNothing(fmt.Sprintf("%s is no member at this moment", st.Server))
	}
	return p.strange(kv.Delete(p.Keys.Member(pool.ServerID(st.Server))))
}

func (p *Pool) revokeLease(st scenario.Statement) error {
	m, ok := p.Snapshot().Members.Get(pool.ServerID(st.Server))
	if !ok {
		return errNothing(fmt.Sprintf("%s is no member at this moment", st.Server))
	}
	if !p.Etcd.Quorum() {
		return errQuorum
	}
	if !p.Etcd.Revoke(stranger, kv.LeaseID(m.LeaseID)) {
		return errNothing(fmt.Sprintf("%s has no lease at this moment", st.Server))
	}
	return nil
}

// rememberClaims keeps what rollbackClaim goes back to, for scenarios that do.
func (p *Pool) rememberClaims() {
	if !slices.ContainsFunc(p.File.Lines, func(l scenario.Statement) bool { return l.Verb == "etcd rollback claim" }) {
		return
	}
	p.earlier = map[pool.VMID]pool.Claim{}
	p.OnChange(func(c Change) {
		for id := range c.After.Claims.ChangedSince(c.Before.Claims) {
			was, ok := c.Before.Claims.Get(id)
			if now, _ := c.After.Claims.Get(id); ok && was.Epoch < now.Epoch && was.Server != "" && c.By != stranger {
				p.earlier[id] = was
			}
		}
	})
}
