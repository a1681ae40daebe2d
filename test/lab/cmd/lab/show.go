//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-ha/holdfast/test/lab"
)

func status(ctx context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 0, 0); err != nil {
		return err
	}
	servers := l.Servers()
	if len(servers) == 0 {
		fmt.Println("the lab is down")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SERVER\tPOWER\tADDRESS\tCUTS\tPROCESSES")
	for _, s := range servers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name(), onOff(s), s.Address(), cuts(s), processes(s))
	}
	_ = w.Flush()
	truths, err := l.Look()
	if err != nil {
		return err
	}
	fmt.Printf("\nshared storage: %s\n", l.SharedDir())
	if len(truths) > 0 {
		fmt.Println()
		if err := showVMs(os.Stdout, l, truths); err != nil {
			return err
		}
	}
	showPool(ctx, l)
	return nil
}

func showVMs(out io.Writer, l *lab.Lab, truths []lab.Truth) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "VM\tSERVER\tPID\tSTATE\tEXECUTES\tCOUNTER\tBOOTS\tFOREIGN WRITES")
	for _, t := range truths {
		state := t.Status
		if t.Stopped {
			state = "stopped process"
		}
		counter, boots, foreign := "-", "-", "-"
		if r, err := lab.ReadRecord(l.Disk(t.VM)); err == nil {
			counter, boots, foreign = fmt.Sprint(r.Counter), fmt.Sprint(r.Boots), fmt.Sprint(r.Foreign)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%v\t%s\t%s\t%s\n", t.VM, t.Server, t.PID, state, yesNo(t.Executing), counter, boots, foreign)
	}
	return w.Flush()
}

func onOff(s *lab.Server) string {
	if s.On() {
		return "on"
	}
	return "off"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func cuts(s *lab.Server) string {
	list, err := s.Cuts()
	if err != nil || len(list) == 0 {
		return "-"
	}
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}

func processes(s *lab.Server) string {
	states, err := s.Processes()
	if err != nil || len(states) == 0 {
		return "-"
	}
	names := make([]string, len(states))
	for i, p := range states {
		names[i] = p.Name
		if !p.Running() {
			names[i] += " (" + p.Exit + ")"
		}
	}
	return strings.Join(names, ", ")
}

func guest(ctx context.Context, l *lab.Lab, args []string) error {
	plain, values := pairs(args)
	if err := words(plain, 2, 3); err != nil {
		return err
	}
	vm, err := describe(plain[1], values)
	if err != nil {
		return err
	}
	domain, err := l.Create(ctx, vm)
	if err != nil {
		return err
	}
	if plain[0] == "xml" && len(plain) == 2 {
		fmt.Print(domain)
		return nil
	}
	if plain[0] == "register" {
		server := ""
		if len(plain) == 3 {
			server = plain[2]
		}
		return registerGuest(ctx, l, plain[1], domain, server)
	}
	if len(plain) != 3 {
		return errUsage
	}
	s, err := l.Server(plain[2])
	if err != nil {
		return err
	}
	switch plain[0] {
	case "define":
		return s.Define(ctx, domain)
	case "start":
		return s.StartTransient(ctx, domain)
	}
	return errUsage
}

func describe(name string, values map[string]string) (lab.VM, error) {
	vm := lab.VM{Name: name, KernelArgs: values["kernel-args"]}
	if err := known(values, "memory", "dirty", "kernel-args"); err != nil {
		return vm, err
	}
	for key, field := range map[string]*int{"memory": &vm.MemoryMiB, "dirty": &vm.DirtyMiB} {
		text, ok := values[key]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return vm, fmt.Errorf("%w: %s=%s: want MiB", errUsage, key, text)
		}
		*field = n
	}
	return vm, nil
}

func counter(_ context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 1, 1); err != nil {
		return err
	}
	r, err := lab.ReadRecord(l.Disk(args[0]))
	if err != nil {
		return err
	}
	fmt.Printf("counter %d, boots %d, foreign writes %d, last written by a boot on %s, up %s, at %s\n",
		r.Counter, r.Boots, r.Foreign, r.Mark, r.Uptime.Round(time.Millisecond), r.Wall.Format("15:04:05.000"))
	boots, err := lab.ReadBoots(l.Disk(args[0]))
	for i, b := range boots {
		fmt.Printf("boot %d on %s at %s from counter %d\n", int(r.Boots)-len(boots)+i+1, b.Mark, b.Wall.Format("15:04:05.000"), b.First)
	}
	return err
}

func watch(ctx context.Context, l *lab.Lab, args []string) error {
	if err := words(args, 0, 0); err != nil {
		return err
	}
	w := l.Watch(ctx)
	defer w.Stop()
	shown := ""
	err := w.Until(ctx, func([]lab.Life) bool {
		if now := w.String(); now != shown {
			shown = now
			fmt.Printf("%s\n", now)
		}
		return false
	})
	for _, o := range w.Overlaps() {
		fmt.Println("TWO AT ONCE:", o)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
