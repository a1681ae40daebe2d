package mesh

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// What QEMU writes at a time (32 pages, each with its header), and reads.
const (
	qemuWrites = 128 << 10
	qemuReads  = 32 << 10
)

// BenchmarkTunnel carries what a program writes into the source's socket to one that reads at the destination's, as
// QEMU does, through both agents' ends and mutual TLS on loopback. CPU is that of both ends, without the two programs.
func BenchmarkTunnel(b *testing.B) {
	c := newCrossing(b)
	s, incoming := c.open()
	near := dial(b, s.Stream)
	far := accept(b, listenAt(b, incoming))
	benchmarkCopy(b, near, far)
}

// BenchmarkPlainTCP is what BenchmarkTunnel is measured against: the two programs on one connection.
func BenchmarkPlainTCP(b *testing.B) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	near, ok := conn.(*net.TCPConn)
	if !ok {
		b.Fatalf("%T", conn)
	}
	far, err := l.AcceptTCP()
	if err != nil {
		b.Fatal(err)
	}
	benchmarkCopy(b, near, far)
}

// endpoint is a socket that a program can be given.
type endpoint interface {
	File() (*os.File, error)
	Close() error
}

func benchmarkCopy(b *testing.B, near, far endpoint) {
	writer := exec.Command("dd", "if=/dev/zero", fmt.Sprintf("bs=%d", qemuWrites), fmt.Sprintf("count=%d", b.N), "status=none")
	reader := exec.Command("dd", "of=/dev/null", fmt.Sprintf("bs=%d", qemuReads), "status=none")
	source := give(b, near)
	writer.Stdout, reader.Stdin = source, give(b, far)
	b.SetBytes(qemuWrites)
	b.ResetTimer()
	before, began := processor(b), time.Now()
	for _, program := range []*exec.Cmd{reader, writer} {
		if err := program.Start(); err != nil {
			b.Fatal(err)
		}
	}
	_ = source.Close() // the program's copy is the last: its end is the stream's
	if err := writer.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := reader.Wait(); err != nil {
		b.Fatal(err)
	}
	took, spent := time.Since(began), processor(b)-before
	gib := float64(b.N) * qemuWrites / (1 << 30)
	b.ReportMetric(gib*1024/took.Seconds(), "MiB/s")
	b.ReportMetric(spent.Seconds()/gib, "cpu-s/GiB")
	both := writer.ProcessState.SystemTime() + writer.ProcessState.UserTime() + reader.ProcessState.SystemTime() + reader.ProcessState.UserTime()
	b.ReportMetric(both.Seconds()/gib, "programs-cpu-s/GiB")
}

// give returns a socket as a program takes it, and forgets it here. Programs expect to wait in their calls.
func give(b *testing.B, e endpoint) *os.File {
	b.Helper()
	f, err := e.File()
	if err != nil {
		b.Fatal(err)
	}
	if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
		b.Fatal(err)
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return f
}

// processor returns what this process has used of the machine's.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
