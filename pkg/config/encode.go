package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Encode returns the settings as YAML, with comment above. Values equal to their defaults are left out, so that a
// later version's better default takes effect.
func (c Config) Encode(comment string) ([]byte, error) {
	def := Default()
	def.Pool, def.Server, def.Address = c.Pool, c.Server, c.Address
	def.StateDir, def.RunDir, def.Etcd.Mode = c.StateDir, c.RunDir, c.Etcd.Mode
	def.Etcd.Heartbeat, def.Etcd.Election = 0, 0 // they follow from the mode
	def = def.Complete()
	short := c.Complete()
	drop(&short.Listen, def.Listen)
	drop(&short.TLS, def.TLS)
	drop(&short.Guard.Socket, def.Guard.Socket)
	drop(&short.Guard.Watchdog, def.Guard.Watchdog)
	drop(&short.Guard.WatchdogTimeout, def.Guard.WatchdogTimeout)
	drop(&short.Guard.MonitorDir, def.Guard.MonitorDir)
	drop(&short.Log, def.Log)
	drop(&short.StateDir, Default().StateDir)
	drop(&short.RunDir, Default().RunDir)
	drop(&short.Etcd.Heartbeat, def.Etcd.Heartbeat)
	drop(&short.Etcd.Election, def.Etcd.Election)
	drop(&short.Etcd.History, def.Etcd.History)
	drop(&short.Etcd.QuotaBytes, def.Etcd.QuotaBytes)
	drop(&short.Etcd.ClientPort, def.Etcd.ClientPort)
	drop(&short.Etcd.PeerPort, def.Etcd.PeerPort)
	return encode(short, comment)
}

// Encode returns the settings as YAML, with comment above.
func (c Client) Encode(comment string) ([]byte, error) { return encode(c, comment) }

func encode(v any, comment string) ([]byte, error) {
	var doc yaml.Node
	if err := doc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	doc.HeadComment = comment
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	return out, nil
}

func drop[T comparable](field *T, def T) {
	if *field == def {
		var zero T
		*field = zero
	}
}
