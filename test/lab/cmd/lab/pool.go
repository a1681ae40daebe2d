//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
	"github.com/holdfast-ha/holdfast/test/lab/holdfast"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// formPool makes a pool of a new lab's servers and says how to look at it.
func formPool(ctx context.Context, l *lab.Lab) error {
	p, err := holdfast.Form(ctx, l, holdfast.Options{HA: true, Progress: func(line string) { fmt.Println(line) }})
	if err != nil {
		return fmt.Errorf("%w\nlast lines of the servers' logs:\n%s", err, l.Tails(5))
	}
	p.Close()
	return nil
}

// hints tells how to look at the pool and how to pull its plugs.
const hints = `
Look:        test/lab/lab exec srv-1 holdfast status
             test/lab/lab exec srv-2 holdfast vms --watch
             test/lab/lab status        what really runs, seen from outside
A small VM:  test/lab/lab guest register vm-1 srv-1
Pull plugs:  test/lab/lab power off srv-1        test/lab/lab power on srv-1
             test/lab/lab cut srv-2              test/lab/lab heal srv-2
             test/lab/lab agent hang srv-3       test/lab/lab agent resume srv-3
The end:     test/lab/lab down
`

// showPool prints what the pool says of itself, asking any server that has power.
func showPool(ctx context.Context, l *lab.Lab) {
	if !holdfast.Formed(l) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, s := range l.Servers() {
		if !s.On() {
			continue
		}
		out, err := s.Exec(ctx, "holdfast", "status")
		fmt.Printf("\nholdfast status, asked on %s:\n%s", s.Name(), out)
		if err != nil {
			fmt.Println(err)
		}
		return
	}
}

// registerGuest registers a small VM with HA and starts it, on a preferred server if one is named.
func registerGuest(ctx context.Context, l *lab.Lab, vm, xml, server string) error {
	s, err := anyOn(l)
	if err != nil {
		return err
	}
	file := "/run/" + vm + ".xml"
	if err := os.WriteFile(s.Path(file), []byte(xml), 0o600); err != nil {
		return err
	}
	settings := []string{}
	if server != "" {
		settings = append(settings, "--set", "prefer="+server)
	}
	for _, words := range [][]string{append([]string{"vm", "register", file}, settings...), {"ha", "on", vm}, {"vm", "start", vm}} {
		fmt.Println("holdfast " + strings.Join(words, " "))
		out, err := s.Exec(ctx, append([]string{"holdfast"}, words...)...)
		fmt.Print(out)
		if err != nil {
			return err
		}
	}
	p, err := holdfast.Open(l)
	if err != nil {
		return err
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err = p.UntilStatus(ctx, vm, pb.VMStatus_VM_STATUS_RUNNING)
	return err
}

func anyOn(l *lab.Lab) (*lab.Server, error) {
	for _, s := range l.Servers() {
		if s.On() {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no server has power")
}
