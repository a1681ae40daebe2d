package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// power is one of the commands that start an operation for a VM.
type power struct {
	name, short, long string
	// doing and done are used while waiting and at the end.
	doing, done string
	call        func(ctx context.Context, s *session, vm, why, requestID string) (*pb.Operation, error)
}

var powers = []power{
	{
		"start", "Start VMs", "The pool chooses the server: a preferred one, else where the VM was last, else any that fits.", "starting", "started",
		func(ctx context.Context, s *session, vm, why, id string) (*pb.Operation, error) {
			r, err := s.vms.StartVM(ctx, &pb.StartVMRequest{Vm: vm, Why: why, RequestId: id})
			return r.GetOperation(), err
		},
	},
	{
		"stop", "Stop VMs: the guest is asked, then forced", "The guest is asked to shut down, and forced off when the pool's stop-limit has passed.", "stopping", "stopped",
		func(ctx context.Context, s *session, vm, why, id string) (*pb.Operation, error) {
			r, err := s.vms.StopVM(ctx, &pb.StopVMRequest{Vm: vm, Why: why, RequestId: id})
			return r.GetOperation(), err
		},
	},
	{
		"kill", "Force VMs off at once", "As pulling the plug: what the guest has not written to its disks is lost.", "killing", "killed",
		func(ctx context.Context, s *session, vm, why, id string) (*pb.Operation, error) {
			r, err := s.vms.KillVM(ctx, &pb.KillVMRequest{Vm: vm, Why: why, RequestId: id})
			return r.GetOperation(), err
		},
	},
	{
		"restart", "Stop VMs and start them again", "As stop, and then start.", "restarting", "restarted",
		func(ctx context.Context, s *session, vm, why, id string) (*pb.Operation, error) {
			r, err := s.vms.RestartVM(ctx, &pb.RestartVMRequest{Vm: vm, Why: why, RequestId: id})
			return r.GetOperation(), err
		},
	},
}

// addVMs adds the commands about VMs. Each short form at the top is the same command as the one below `vm`.
func (a *app) addVMs(root *cobra.Command) {
	vm := a.group("vm", "Register, show and change VMs", "vm")
	vm.AddCommand(a.registerCommand(), a.showVMCommand(), a.setVMCommand())
	for _, build := range a.vmVerbs() {
		vm.AddCommand(build())
		short := build()
		short.GroupID = "vm"
		root.AddCommand(short)
	}
	root.AddCommand(vm)
}

// vmVerbs builds the commands that exist as `vm VERB` and as `VERB`.
func (a *app) vmVerbs() []func() *cobra.Command {
	var all []func() *cobra.Command
	for _, p := range powers {
		all = append(all, func() *cobra.Command { return a.powerCommand(p) })
	}
	return append(all, a.migrateCommand, a.relocateCommand, a.clearCommand, a.removeCommand)
}

func (a *app) powerCommand(p power) *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use: p.name + " VM...", Short: p.short, Long: p.short + ".\n\n" + p.long + "\n\n" + waitHelp,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs(0),
		RunE: a.with(func(ctx context.Context, s *session, vms []string) error {
			return a.operate(ctx, s, vms, o, verb{p.doing, p.done}, func(ctx context.Context, vm, id string) (*pb.Operation, error) {
				return p.call(ctx, s, vm, o.why, id)
			})
		}),
	}
	whyFlag(cmd, &o.why)
	o.flags(cmd)
	return cmd
}

func whyFlag(cmd *cobra.Command, why *string) {
	cmd.Flags().StringVar(why, "why", "", "`reason`, recorded with who and when")
}

func (a *app) clearCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "clear VM...", Short: "Clear failed VMs: forget their failures and try again",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs(0),
		RunE: a.with(func(ctx context.Context, s *session, vms []string) error {
			return a.each(ctx, vms, func(vm string) error {
				r, err := s.vms.ClearVM(ctx, &pb.ClearVMRequest{Vm: vm, Why: why})
				if err == nil {
					a.say("%s: cleared, %s", vm, vmLine(r.GetVm(), nil))
				}
				return err
			})
		}),
	}
	whyFlag(cmd, &why)
	return cmd
}

func (a *app) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove VM...", Short: "Forget stopped VMs; their disks are left alone",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVMs(0),
		RunE: a.with(func(ctx context.Context, s *session, vms []string) error {
			return a.each(ctx, vms, func(vm string) error {
				_, err := s.vms.RemoveVM(ctx, &pb.RemoveVMRequest{Vm: vm})
				if err == nil {
					a.say("%s: removed from the pool; its disks are left alone", vm)
				}
				return err
			})
		}),
	}
}

// each does one thing after the other, reports what went wrong with which, and ends with the most urgent exit code.
func (a *app) each(ctx context.Context, names []string, do func(name string) error) error {
	code := ExitOK
	for _, name := range names {
		err := do(name)
		report(a.env.Err, name, err)
		code = worse(code, Code(err))
		if Code(err) == ExitUnreachable || ctx.Err() != nil {
			break
		}
	}
	return exitWith(code)
}

func exitWith(code int) error {
	if code == ExitOK {
		return nil
	}
	return &exitError{code}
}

func (a *app) setVMCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set VM KEY=VALUE...", Short: "Change a VM's settings", Long: "Change a VM's settings.\n\n" + vmSettingsHelp(),
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeSettings(a.vmSettingValues, false),
		RunE: a.with(a.setVM),
	}
}

// setVM is `vm set VM KEY=VALUE...` and `set VM KEY=VALUE...`.
func (a *app) setVM(ctx context.Context, s *session, args []string) error {
	set, err := settings(args[1:])
	if err != nil {
		return err
	}
	if _, err := s.vms.UpdateVM(ctx, &pb.UpdateVMRequest{Vm: args[0], Set: set}); err != nil {
		return err
	}
	a.say("%s: set %s", args[0], strings.Join(args[1:], " "))
	return nil
}

// settings reads KEY=VALUE words. Which keys there are is for the agent to say: it may be newer than this program.
func settings(words []string) (map[string]string, error) {
	set := map[string]string{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, usagef("%q is not KEY=VALUE", w)
		}
		if _, twice := set[key]; twice {
			return nil, usagef("%s is set twice", key)
		}
		set[key] = value
	}
	return set, nil
}

func (a *app) registerCommand() *cobra.Command {
	var server, id string
	var set []string
	cmd := &cobra.Command{
		Use: "register FILE.xml|NAME", Short: "Register a VM from its libvirt XML, or adopt one that runs",
		Long: `Register a VM from its libvirt XML, or adopt a libvirt domain by its name.

A FILE (anything with a slash or ending in .xml, or - for standard input) is
the definition of a VM that does not run yet. A NAME is a domain that libvirt
on one of the servers knows; one that runs is adopted without a restart. What
the VM needs is checked on every server, and what some of them lack is printed.
HA of the VM is off until "holdfast ha on VM".

` + vmSettingsHelp(),
		Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			req := &pb.RegisterVMRequest{Server: server, RequestId: requestID(id)}
			var err error
			if req.Set, err = settings(set); err != nil {
				return err
			}
			if err := a.definition(req, args[0]); err != nil {
				return err
			}
			return a.register(ctx, s, req)
		}),
	}
	cmd.Flags().StringVar(&server, "server", "", "the `server` whose libvirt has NAME, where several do")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`KEY=VALUE`, a setting of the VM; may be repeated")
	cmd.Flags().StringVar(&id, "request-id", "", "`name` of this request: the same one twice registers once")
	must(cmd.RegisterFlagCompletionFunc("server", a.completeServers(1)))
	must(cmd.RegisterFlagCompletionFunc("set", a.completeSetFlag))
	return cmd
}

// definition fills in the XML or the name to adopt.
func (a *app) definition(req *pb.RegisterVMRequest, arg string) error {
	if arg != "-" && !strings.Contains(arg, "/") && !strings.HasSuffix(arg, ".xml") {
		req.Domain = arg
		return nil
	}
	if req.GetServer() != "" {
		return usagef("--server belongs to the name of a domain; %s is a definition", arg)
	}
	data, err := a.readFile(arg)
	if err != nil {
		return err
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return usagef("%s is empty", arg)
	}
	req.Xml = string(data)
	return nil
}

func (a *app) register(ctx context.Context, s *session, req *pb.RegisterVMRequest) error {
	r, err := s.vms.RegisterVM(ctx, req)
	if err != nil {
		return unknownHint(err, "look with \"holdfast vms\"; repeating with --request-id "+req.GetRequestId()+" is safe")
	}
	for _, note := range r.GetNotes() {
		a.say("note: %s", note)
	}
	v := r.GetVm().GetVm()
	a.say("%s: registered, %s, %s memory; %s", v.GetId(), plural(int(v.GetCpus()), "CPU"), size(v.GetMemoryBytes()), vmLine(r.GetVm(), nil))
	return nil
}

// unknownHint adds to an unknown outcome what to do.
func unknownHint(err error, hint string) error {
	if Code(err) != ExitUnknown {
		return err
	}
	return fmt.Errorf("%w; %s", err, hint)
}
