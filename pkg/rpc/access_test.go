package rpc

import (
	"testing"

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
