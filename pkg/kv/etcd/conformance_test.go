package etcd_test

import (
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/clock"
	"github.com/holdfast-ha/holdfast/pkg/kv/kvtest"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	"github.com/holdfast-ha/holdfast/test/etcdtest"
)

func TestOneMemberDoesWhatAStoreMust(t *testing.T)  { conform(t, 1) }
func TestThreeMembersDoWhatAStoreMust(t *testing.T) { conform(t, 3) }

func conform(t *testing.T, members int) {
	t.Parallel()
	c := etcdtest.Start(t, members)
	e := c.Open()
	kvtest.Run(t, func(t *testing.T) kvtest.Edge {
		return kvtest.Edge{Store: e, Leases: e, Clock: clock.Real(),
			Compact: func(_ testing.TB, rev pool.Revision) { c.Compact(rev) }}
	})
}
