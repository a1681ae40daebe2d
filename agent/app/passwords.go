package app

import (
	"context"
	"fmt"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Passwords puts passwords back into a definition that they were taken out of.
type Passwords interface {
	// Lack reports whether a definition has a place for a password that is empty.
	Lack(xml string) (bool, error)
	// Put returns the definition with passwords, given by their places.
	Put(xml string, passwords map[string]string) (string, error)
}

// complete returns the definition that a VM is started from. Only a definition that lacks a password costs a read.
// Passwords that cannot be read fail the start: the reason names their key, never what it holds.
func (a *Agent) complete(ctx context.Context, vm pool.VM) (string, error) {
	if a.e.Passwords == nil {
		return vm.XML, nil
	}
	lacks, err := a.e.Passwords.Lack(vm.XML)
	if err != nil || !lacks {
		return vm.XML, err
	}
	s, _, err := a.data.store.ReadSecrets(ctx, vm.ID)
	if err != nil {
		return "", fmt.Errorf("passwords of %s: %w", vm.ID, err)
	}
	return a.e.Passwords.Put(vm.XML, s.Passwords)
}
