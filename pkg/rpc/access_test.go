package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/holdfast-ha/holdfast/pkg/pki"
	_ "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// everyMethod lists the full names of all RPCs of our API.
func everyMethod(t *testing.T) []string {
	t.Helper()
	var all []string
	protoregistry.GlobalFiles.RangeFilesByPackage("holdfast.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				all = append(all, "/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
			}
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("found only %d RPCs: %v", len(all), all)
	}
	return all
}

func TestEveryRPCHasARowInTheAccessTable(t *testing.T) {
	for _, m := range everyMethod(t) {
		if m[:len("/holdfast.v1.JoinService/")-1] == "/holdfast.v1.JoinService" {
			continue
		}
		if len(access[m]) == 0 {
			t.Errorf("%s: nobody may call it", m)
		}
	}
}

func TestOnlyServersMayCallTheMesh(t *testing.T) {
	for _, m := range everyMethod(t) {
		if len(m) < 25 || m[:25] != "/holdfast.v1.MeshService/" {
			continue
		}
		for _, role := range []pki.Role{"", pki.RoleViewer, pki.RoleOperator, pki.RoleAdmin, pki.RoleWitness} {
			if Allowed(m, role) {
				t.Errorf("%s is open to role %q", m, role)
			}
		}
	}
}

func TestAViewerChangesNothing(t *testing.T) {
	reads := map[string]bool{}
	for m, roles := range access {
		for _, r := range roles {
			if r == pki.RoleViewer {
				reads[m] = true
			}
		}
	}
	for m := range reads {
		for _, word := range []string{"Set", "Update", "Remove", "Start", "Stop", "Kill", "Restart", "Clear", "Register", "Confirm"} {
			if i := lastSlash(m); len(m) > i+len(word) && m[i+1:i+1+len(word)] == word {
				t.Errorf("a viewer may call %s", m)
			}
		}
	}
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

func TestWhatIsNotInTheTableIsClosed(t *testing.T) {
	if Allowed("/holdfast.v1.PoolService/NoSuchCall", pki.RoleAdmin) {
		t.Error("an unknown call is open")
	}
}

// may is the access table said a second time, by rules: what each role may call follows from the service and the name.
func may(role pki.Role, service, name string) bool {
	switch {
	case service == "JoinService":
		return true // the token is judged by the handler
	case service == "MeshService":
		return role == pki.RoleServer
	case IsRead(name):
		return role.Operator() || role == pki.RoleServer
	case name == "RenewCertificate":
		return role.Operator()
	case service == "IdentityService", service == "DrillService", name == "UpdateServer", name == "RemoveServer":
		return role == pki.RoleAdmin
	}
	return role == pki.RoleOperator || role == pki.RoleAdmin
}

func TestEveryCallIsOpenToExactlyTheRolesThatMayMakeIt(t *testing.T) {
	g := NewGate(ServeLimits{}, nil)
	roles := []pki.Role{"", pki.RoleViewer, pki.RoleOperator, pki.RoleAdmin, pki.RoleServer, pki.RoleWitness}
	checked := 0
	for _, m := range everyMethod(t) {
		i := lastSlash(m)
		service, name := strings.TrimPrefix(m[:i], "/holdfast.v1."), m[i+1:]
		for _, role := range roles {
			state := tls.ConnectionState{}
			if role != "" {
				state.VerifiedChains = [][]*x509.Certificate{{{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x",
					OrganizationalUnit: []string{string(role)}, Organization: []string{"prod"}}}}}
			}
			ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 1}, AuthInfo: credentials.TLSInfo{State: state}})
			called := false
			_, err := g.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: m}, func(context.Context, any) (any, error) {
				called = true
				return nil, nil
			})
			want := codes.OK
			if !may(role, service, name) {
				if want = codes.PermissionDenied; role == "" {
					want = codes.Unauthenticated
				}
			}
			if status.Code(err) != want || called != (want == codes.OK) {
				t.Errorf("%s by role %q: %v, want %v", m, role, err, want)
			}
			checked++
		}
	}
	if checked < 300 {
		t.Errorf("only %d pairs", checked)
	}
}
