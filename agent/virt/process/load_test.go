package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheServersLoadLeavesIdleTimeAndFileCacheOut(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		// user nice system idle iowait irq softirq steal guest guest_nice
		"stat":    "cpu  1000 50 300 99999 8888 20 30 100 700 0\ncpu0 500 25 150 1 1 10 15 50 350 0\ncpu1 500 25 150 1 1 10 15 50 350 0\nintr 1 2 3\n",
		"meminfo": "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:   10000 kB\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Table{Proc: dir}.Load()
	want := Load{Busy: 15 * time.Second, CPUs: 2, MemoryUsedBytes: 6000 << 10, MemoryBytes: 16000 << 10}
	if err != nil || got != want {
		t.Errorf("load = %+v, %v, want %+v", got, err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte("cpu x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Table{Proc: dir}).Load(); err == nil {
		t.Error("a file that cannot be read gives figures")
	}
}

func TestTheServersLoadIsReadHere(t *testing.T) {
	l, err := Table{}.Load()
	if err != nil || l.CPUs < 1 || l.Busy <= 0 || l.MemoryUsedBytes <= 0 || l.MemoryUsedBytes > l.MemoryBytes {
		t.Errorf("load = %+v, %v", l, err)
	}
}
