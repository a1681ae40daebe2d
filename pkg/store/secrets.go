package store

import (
	"context"
	"encoding/json"

	"github.com/holdfast-ha/holdfast/pkg/kv"
	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// secrets is the value of a VM's secrets: passwords by their place in the definition.
type secrets struct {
	VM        pool.VMID         `json:"vm"`
	Passwords map[string]string `json:"passwords"`
}

// PutSecrets writes the passwords of a VM.
func (k Keys) PutSecrets(s pool.Secrets) kv.Op {
	value, err := json.Marshal(secrets(s))
	if err != nil {
		return kv.Op{} // as put does
	}
	return k.PutSecret(s.VM, value)
}

// ReadSecrets reads the passwords of a VM. Nothing keeps them: call it for each start.
func (s *Store) ReadSecrets(ctx context.Context, id pool.VMID) (pool.Secrets, bool, error) {
	return one(ctx, s, s.keys.Secret(id), byName(string(id), readSecrets))
}

// readSecrets never puts the value into an error.
func readSecrets(entry kv.KeyValue, name string) (pool.Secrets, error) {
	var v secrets
	if err := json.Unmarshal(entry.Value, &v); err != nil || string(v.VM) != name {
		return pool.Secrets{}, &CorruptError{Key: entry.Key, Reason: "it is not the passwords of " + name}
	}
	return pool.Secrets(v), nil
}
