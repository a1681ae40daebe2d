package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// hears asks for a sign of life within the limit.
func hears(t *testing.T, p *Peers, server pool.ServerID, limit time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.Alive(ctx, server) == nil
}

func TestAnAgentThatAnswersIsASignOfLife(t *testing.T) {
	s := newSite(t)
	s.serve("srv-2", &machine{})
	if !hears(t, s.peers("srv-1", &machine{}), "srv-2", 5*time.Second) {
		t.Error("srv-2 answers, and is not heard")
	}
}

func TestAHostThatRefusesIsASignOfLife(t *testing.T) {
	s := newSite(t)
	stop := s.serve("srv-2", &machine{})
	p := s.peers("srv-1", &machine{})
	if !hears(t, p, "srv-2", 5*time.Second) {
		t.Fatal("srv-2 answers, and is not heard")
	}
	stop() // its agent is dead, its kernel is not
	for range 5 {
		if !hears(t, p, "srv-2", 5*time.Second) {
			t.Error("srv-2 refuses connections, and is not heard")
		}
	}
}

func TestAnAgentThatHangsDoesNotMakeItsHostSilent(t *testing.T) {
	s := newSite(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	s.registerAt("srv-2", lis.Addr().String())
	if !hears(t, s.peers("srv-1", &machine{}), "srv-2", 3*time.Second) {
		t.Error("the kernel of srv-2 accepts connections, and srv-2 is not heard")
	}
}

func TestAHostThatAnswersNothingIsSilent(t *testing.T) {
	s := newSite(t)
	s.registerAt("srv-2", mute(t))
	if hears(t, s.peers("srv-1", &machine{}), "srv-2", time.Second) {
		t.Error("nothing answers, and it is heard")
	}
}

// mute returns an address at which the kernel drops what comes: its queue of connections is full.
func mute(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("its address is %v", name)
	}
	address := fmt.Sprintf("127.0.0.1:%d", at.Port)
	for range 8 {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address // full
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this kernel queues more connections than it was told")
	return ""
}

func TestAWitnessIsAskedHowLongItHasHeardNothing(t *testing.T) {
	s := newSite(t)
	witness := &machine{}
	s.serve("srv-2", witness)
	silent, err := s.peers("srv-1", &machine{}).AskSilence(t.Context(), "srv-2", "srv-3")
	if err != nil || silent != 1500*time.Millisecond {
		t.Errorf("silent for %v, %v", silent, err)
	}
	if len(witness.silenceOf) != 1 || witness.silenceOf[0] != "srv-3" {
		t.Errorf("it was asked about %v", witness.silenceOf)
	}
}
