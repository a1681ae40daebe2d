package imports

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheRulesDecideAsTheyRead(t *testing.T) {
	tests := []struct {
		from, to         string
		production, test bool
	}{
		{"agent/api", "pkg/plan", true, true},
		{"agent/api", "pkg/lease", false, true},
		{"agent/leader", "agent/local", false, true},
		{"agent/leader", "pkg/clock", true, true},
		{"agent/leader", "pkg/store", false, true},
		{"agent", "agent/sim/demo", true, true},
		{"agent", "console/cli", false, false},
		{"console/cli", "agent/api", false, false},
		{"console", "console/ui", false, true},
		{"console/ui/theme", "console/feed", true, true},
		{"pkg/kv/etcd", "pkg/kv", true, true},
		{"pkg/lease", "pkg/kv/etcd", true, true},
		{"pkg/store", "agent/sim", false, false},
		{"pkg/store", "test/etcdtest", false, true},
		{"pkg/pool", "pkg/clock", false, false},
		{"pkg/plan", "pkg/clock", false, true},
		{"test/lab", "agent/virt", true, true},
		{"newthing", "pkg/pool", false, false},
	}
	for _, tt := range tests {
		if got := allowed(tt.from, tt.to); got != tt.production {
			t.Errorf("allowed(%s, %s) = %v, want %v", tt.from, tt.to, got, tt.production)
		}
		if got := testAllowed(tt.from, tt.to); got != tt.test {
			t.Errorf("testAllowed(%s, %s) = %v, want %v", tt.from, tt.to, got, tt.test)
		}
	}
}

func TestImpuritiesAreSeen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.go")
	text := `package x

import "time"

func f() {
	go f()
	c := make(chan int)
	select {
	case <-c:
	}
	_ = time.Now()
	_ = time.Second
}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := impurities(t, file); len(got) != 4 {
		t.Errorf("impurities = %q, want goroutine, channel, select and clock", got)
	}
}
