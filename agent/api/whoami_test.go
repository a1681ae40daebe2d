package api

import (
	"slices"
	"testing"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func TestWhoAmITellsEachRoleWhatItMayCall(t *testing.T) {
	for _, c := range []struct {
		role     pki.Role
		readOnly bool
		may, not string
	}{
		{pki.RoleViewer, true, "/holdfast.v1.PoolService/WatchPool", "/holdfast.v1.VMService/StartVM"},
		{pki.RoleOperator, false, "/holdfast.v1.VMService/StartVM", "/holdfast.v1.ServerService/RemoveServer"},
		{pki.RoleAdmin, false, "/holdfast.v1.ServerService/RemoveServer", "/holdfast.v1.MeshService/AskPromise"},
	} {
		r, err := (&Server{}).WhoAmI(rpc.WithIdentity(t.Context(), pki.Identity{Name: "kim", Role: c.role}), &pb.WhoAmIRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if r.GetName() != "kim" || r.GetRole() != string(c.role) || r.GetReadOnly() != c.readOnly {
			t.Errorf("%s: %v", c.role, r)
		}
		if !slices.Contains(r.GetPermitted(), c.may) || slices.Contains(r.GetPermitted(), c.not) {
			t.Errorf("%s may call %v", c.role, r.GetPermitted())
		}
		if !slices.IsSorted(r.GetPermitted()) {
			t.Errorf("%s: not in order", c.role)
		}
	}
}
