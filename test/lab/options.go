package lab

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
)

// Environment variables that set the defaults of Options.
const (
	// EnvEnable switches the lab tests on; without it they are skipped.
	EnvEnable = "HOLDFAST_LAB"
	// EnvName is Options.Name.
	EnvName = "HOLDFAST_LAB_NAME"
	// EnvAgent is Options.Agent.
	EnvAgent = "HOLDFAST_LAB_AGENT"
)

// Options says what kind of lab to run. The zero value, completed by Open, is
// the lab that `make lab` starts.
type Options struct {
	// Name tells labs on one machine apart: up to six letters and digits. The
	// default is the empty name.
	Name string
	// Agent is the holdfast-agent binary that servers run; by default
	// bin/holdfast-agent of this repository. It need not exist for a lab without
	// Holdfast.
	Agent string
	// SourceDir is the root of this repository, from which the guest and the
	// servers' first process are built.
	SourceDir string
	// CacheDir keeps the unpacked guest kernel and is shared by all labs.
	CacheDir string
	// Ports that `cut SERVER etcd` and `cut SERVER peers` block.
	EtcdPorts, PeerPorts []int
	// Log hears about every step; nil is silence.
	Log *slog.Logger
}

var labName = regexp.MustCompile(`^[a-z0-9]{0,6}$`)

func (o Options) complete() (Options, error) {
	o.Name = first(o.Name, os.Getenv(EnvName))
	if !labName.MatchString(o.Name) {
		return o, fmt.Errorf("lab name %q: want up to six lower-case letters and digits", o.Name)
	}
	if o.SourceDir == "" {
		dir, err := sourceDir()
		if err != nil {
			return o, err
		}
		o.SourceDir = dir
	}
	o.Agent = first(o.Agent, os.Getenv(EnvAgent), filepath.Join(o.SourceDir, "bin", "holdfast-agent"))
	o.CacheDir = first(o.CacheDir, "/var/cache/holdfast-lab")
	if len(o.EtcdPorts) == 0 {
		o.EtcdPorts = []int{2379, 2380}
	}
	if len(o.PeerPorts) == 0 {
		o.PeerPorts = []int{7400}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// suffix makes path names of a named lab.
func (o Options) suffix() string {
	if o.Name == "" {
		return ""
	}
	return "-" + o.Name
}

// subnet is the third octet of the lab's addresses, 10.77.X.0/24.
func (o Options) subnet() int {
	if o.Name == "" {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(o.Name)) // never fails
	return 1 + int(h.Sum32()%254)
}
