//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-ha/holdfast/test/lab"
)

func commands() []command {
	return []command{
		{"up", "[--bare] [N]", "start a new lab of N servers (3) and make a pool of them, replacing the old one; --bare: libvirt only", up},
		{"down", "", "end the lab and remove every trace of it", down},
		{"status", "", "servers, their processes, which server executes which VM, and what the pool says", status},
		{"power", "off|on SERVER", "cut the power without warning; switch it on again", power},
		{"cut", "SERVER [etcd|peers|in|out|from SERVER]", "cut it off the network, or part of it; storage stays", cut},
		{"heal", "SERVER [etcd|peers|in|out|from SERVER]", "mend a cut, or all that the server has", heal},
		{"freeze", "SERVER", "hang the machine as a whole", freeze(true)},
		{"thaw", "SERVER", "let it go on", freeze(false)},
		{"exec", "SERVER CMD...", "run a command on a server", execute},
		{"virsh", "SERVER ARGS...", "talk to a server's libvirtd", virsh},
		{"agent", "kill|hang|resume|start|stop SERVER", "SIGKILL, SIGSTOP, SIGCONT, start, SIGTERM", process(lab.Agent)},
		{"guard", "kill|hang|resume|start|stop SERVER", "the same for the guard", process(lab.Guard)},
		{"etcd", "kill|hang|resume|start|stop SERVER", "the same for the etcd member", process(lab.Etcd)},
		{"libvirtd", "kill|hang|resume|start|stop SERVER", "the same for libvirtd", process(lab.Libvirtd)},
		{"enable", "SERVER PROCESS...", "start etcd, guard or agent at each power-on", enable},
		{"disable", "SERVER PROCESS...", "do not start it any more", disable},
		{"guest", "xml|define|start|register NAME [SERVER] [KEY=VALUE...]", "print, define, start or register a small VM (memory, dirty, kernel-args)", guest},
		{"counter", "NAME", "what the VM wrote to its disk last, and its boots", counter},
		{"bmc", "", "serve the servers' power switches to fence_lab, until interrupted", bmc},
		{"fence", "fails|works SERVER", "make that server's power switch answer with an error; mend it", fence},
		{"bench", "failover|idle [--runs N] [--ttl 5s] [--power] [--seed N]", "measure on a lab of its own: power loss to running elsewhere; what an idle agent costs", bench},
		{"watch", "", "print who executes what, as it changes, until interrupted", watch},
	}
}

func up(ctx context.Context, l *lab.Lab, args []string) error {
	bare := len(args) > 0 && args[0] == "--bare"
	if bare {
		args = args[1:]
	}
	if err := words(args, 0, 1); err != nil {
		return err
	}
	n := 3
	if len(args) == 1 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil {
			return errUsage
		}
	}
	if err := lab.Check(); err != nil {
		return err
	}
	if old := len(l.Servers()); old > 0 {
		fmt.Printf("replacing the lab of %d servers\n", old)
	}
	if err := l.Up(ctx, n); err != nil {
		return err
	}
	if bare {
		return status(ctx, l, nil)
	}
	if err := formPool(ctx, l); err != nil {
		return err
	}
	if err := status(ctx, l, nil); err != nil {
		return err
	}
	fmt.Print(hints)
	return nil
}

func down(ctx context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 0, 0); err != nil {
		return err
	}
	return l.Down(ctx)
}

func power(ctx context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 2, 2); err != nil {
		return err
	}
	s, err := l.Server(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "off":
		_, err = s.PowerOff(ctx)
		return err
	case "on":
		return s.PowerOn(ctx)
	}
	return errUsage
}

func parseCut(l *lab.Lab, args []string) (*lab.Server, lab.Cut, error) {
	if len(args) == 0 {
		return nil, "", errUsage
	}
	s, err := l.Server(args[0])
	if err != nil {
		return nil, "", err
	}
	c, err := lab.ParseCut(args[1:]...)
	return s, c, err
}

func cut(ctx context.Context, l *lab.Lab, args []string) error {
	s, c, err := parseCut(l, args)
	if err != nil {
		return err
	}
	return s.Cut(ctx, c)
}

func heal(ctx context.Context, l *lab.Lab, args []string) error {
	s, c, err := parseCut(l, args)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return s.Heal(ctx)
	}
	return s.Heal(ctx, c)
}

func freeze(on bool) func(context.Context, *lab.Lab, []string) error {
	return func(ctx context.Context, l *lab.Lab, args []string) error {
		if err := words(args, 1, 1); err != nil {
			return err
		}
		s, err := l.Server(args[0])
		if err != nil {
			return err
		}
		return s.Freeze(ctx, on)
	}
}

func execute(ctx context.Context, l *lab.Lab, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	s, err := l.Server(args[0])
	if err != nil {
		return err
	}
	cmd, done, err := s.Command(ctx, args[1:]...)
	if err != nil {
		return err
	}
	defer done()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exitStatus(exit.ExitCode())
	}
	return err
}

func virsh(ctx context.Context, l *lab.Lab, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	s, err := l.Server(args[0])
	if err != nil {
		return err
	}
	out, err := s.Virsh(ctx, args[1:]...)
	if err == nil {
		fmt.Println(out)
	}
	return err
}

func process(name string) func(context.Context, *lab.Lab, []string) error {
	return func(ctx context.Context, l *lab.Lab, args []string) error {
		if err := words(args, 2, 2); err != nil {
			return err
		}
		s, err := l.Server(args[1])
		if err != nil {
			return err
		}
		switch args[0] {
		case "kill":
			return s.Kill(ctx, name)
		case "hang":
			return s.Hang(name)
		case "resume":
			return s.Resume(name)
		case "start":
			return s.Start(name)
		case "stop":
			return s.Stop(ctx, name)
		}
		return errUsage
	}
}

func enable(_ context.Context, l *lab.Lab, args []string) error {
	return change(l, args, (*lab.Server).Enable)
}

func disable(_ context.Context, l *lab.Lab, args []string) error {
	return change(l, args, (*lab.Server).Disable)
}

func change(l *lab.Lab, args []string, do func(*lab.Server, ...string) error) error {
	if len(args) < 2 {
		return errUsage
	}
	s, err := l.Server(args[0])
	if err != nil {
		return err
	}
	return do(s, args[1:]...)
}

// pairs splits KEY=VALUE words from the others.
func pairs(args []string) (plain []string, values map[string]string) {
	values = map[string]string{}
	for _, a := range args {
		if key, value, ok := strings.Cut(a, "="); ok {
			values[key] = value
		} else {
			plain = append(plain, a)
		}
	}
	return plain, values
}

func known(values map[string]string, keys ...string) error {
	for key := range values {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("%w: no setting %q, there are %s", errUsage, key, strings.Join(keys, ", "))
		}
	}
	return nil
}

func bmc(ctx context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 0, 0); err != nil {
		return err
	}
	b, err := l.ServeBMC(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	fmt.Printf("power switches at %s; on the servers use %s\n", b.Address(), l.FenceAgent())
	<-ctx.Done()
	return nil
}

func fence(_ context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 2, 2); err != nil {
		return err
	}
	s, err := l.Server(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "fails":
		return s.SetFence(true, 0)
	case "works":
		return s.SetFence(false, 0)
	}
	return errUsage
}
