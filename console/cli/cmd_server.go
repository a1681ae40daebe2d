package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// addServers adds the commands about servers.
func (a *app) addServers(root *cobra.Command) {
	server := a.group("server", "Show servers, and set their labels and power switches", "server")
	server.AddCommand(a.showServerCommand(), a.labelCommand(), a.fenceCommand())
	root.AddCommand(server)
	for _, c := range []*cobra.Command{a.inboundLockCommand(), a.confirmFencedCommand(), a.removeServerCommand("remove-server SERVER")} {
		c.GroupID = "server"
		root.AddCommand(c)
	}
	a.addPlannedWork(root, server)
}

func (a *app) inboundLockCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "inbound-lock on|off SERVER", Short: "Let no VM arrive at a server, by start, migration or HA",
		Long: "Let no VM arrive at a server, by start, migration or HA. VMs there run on and may leave.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeSwitch(a.completeServers(1)),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			on, err := onOrOff(args[0])
			if err != nil {
				return err
			}
			r, err := s.servers.SetInboundLock(ctx, &pb.SetInboundLockRequest{Server: args[1], On: on, Why: why})
			if err != nil {
				return err
			}
			a.say("%s: inbound lock %s", args[1], onOff(r.GetServer().GetServer().GetInboundLock()))
			return nil
		}),
	}
	whyFlag(cmd, &why)
	return cmd
}

func onOrOff(word string) (bool, error) {
	switch word {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, usagef("%q is neither on nor off", word)
}

func (a *app) confirmFencedCommand() *cobra.Command {
	var why, sure string
	cmd := &cobra.Command{
		Use: "confirm-fenced SERVER", Short: "State that a lost server is off, so that its VMs are started elsewhere",
		Long: `State that a lost server is off, so that its VMs are started elsewhere.

Do this only after you have made sure: a server that still runs its VMs then
corrupts their disks. You are asked to type its name. A script passes
--yes-i-am-sure SERVER instead, with the same name.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			typed := sure
			if typed == "" {
				var err error
				if typed, err = a.askFenced(ctx, s, args[0]); err != nil {
					return err
				}
			}
			if typed != args[0] {
				return usagef("%q is not %q: nothing was done", typed, args[0])
			}
			r, err := s.servers.ConfirmFenced(ctx, &pb.ConfirmFencedRequest{Server: args[0], TypedName: typed, Why: why})
			if err != nil {
				return err
			}
			a.say("%s: confirmed fenced; now %s", args[0], serverWords(r.GetServer()))
			return nil
		}),
	}
	whyFlag(cmd, &why)
	cmd.Flags().StringVar(&sure, "yes-i-am-sure", "", "the `server`'s name once more, instead of typing it")
	must(cmd.RegisterFlagCompletionFunc("yes-i-am-sure", cobra.NoFileCompletions))
	return cmd
}

// askFenced shows what is at stake and reads the server's name from the terminal.
func (a *app) askFenced(ctx context.Context, s *session, name string) (string, error) {
	if !a.env.InTerminal {
		return "", usagef("nobody can be asked here; if you are sure that %s is off, add --yes-i-am-sure %s", name, name)
	}
	view, err := s.servers.GetServer(ctx, &pb.GetServerRequest{Server: name})
	if err != nil {
		return "", err
	}
	vms, err := s.vms.ListVMs(ctx, &pb.ListVMsRequest{WithoutXml: true})
	if err != nil {
		return "", err
	}
	var there []string
	for _, v := range vms.GetVms() {
		if v.GetClaim().GetServer() == name {
			there = append(there, v.GetVm().GetId())
		}
	}
	w := a.env.Err
	fmt.Fprintln(w, text.Clean(fmt.Sprintf("pool %s: confirm that server %s is off", s.name(), name)))
	fmt.Fprintln(w, text.Clean("  it is "+withReason(serverWords(view.GetServer()), view.GetServer().GetReason())))
	for _, line := range text.Wrap(text.Clean(fmt.Sprintf("its VMs (%d): %s", len(there), dash(strings.Join(there, ", ")))), 70) {
		fmt.Fprintln(w, "  "+line)
	}
	fmt.Fprintln(w, "\n  If it still runs, its VMs will run twice, and that CORRUPTS THEIR DISKS.\n  Make sure that it has no power, or cannot reach the storage, before you go on.")
	fmt.Fprint(w, "\n"+text.Clean("Type "+name+" to confirm: "))
	return a.readLine(ctx)
}

// readLine reads an answer; an interrupt ends the wait for it.
func (a *app) readLine(ctx context.Context) (string, error) {
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(a.env.In).ReadString('\n')
		if line != "" {
			err = nil
		}
		answers <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case got := <-answers:
		if got.err != nil {
			return "", usagef("no answer: nothing was done")
		}
		return got.line, nil
	case <-ctx.Done():
		return "", usagef("interrupted: nothing was done")
	}
}

func (a *app) removeServerCommand(use string) *cobra.Command {
	var o startOptions
	var evacuate, restart bool
	cmd := &cobra.Command{
		Use: use, Short: "Take a server out of the pool; refused while it runs VMs, unless --evacuate",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			return a.operateServer(ctx, s, args[0], o, verb{"being removed", "removed from the pool"}, func(ctx context.Context, id string) (*pb.Operation, error) {
				r, err := s.servers.RemoveServer(ctx, &pb.RemoveServerRequest{Server: args[0], Why: o.why, Evacuate: evacuate, RestartUnmovable: restart, RequestId: id})
				return r.GetOperation(), err
			})
		}),
	}
	o.flags(cmd)
	whyFlag(cmd, &o.why)
	cmd.Flags().BoolVar(&evacuate, "evacuate", false, "move its VMs elsewhere first")
	cmd.Flags().BoolVar(&restart, "restart", false, "with --evacuate: stop VMs that cannot migrate live, and start them elsewhere")
	return cmd
}

func (a *app) labelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "label SERVER KEY=VALUE...", Short: "Set labels of a server; an empty value removes one",
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			set, err := settings(args[1:])
			if err != nil {
				return err
			}
			if _, err := s.servers.UpdateServer(ctx, &pb.UpdateServerRequest{Server: args[0], Labels: set}); err != nil {
				return err
			}
			a.say("%s: labelled %s", args[0], strings.Join(args[1:], " "))
			return nil
		}),
	}
}

func (a *app) fenceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "fence SERVER FILE|none", Short: "Set the power switches of a server from a YAML file",
		Long: `Set the power switches of a server from a YAML file; "none" removes them.

The file is a list; all switches must report off before the server counts as
fenced. Passwords stay in files on the servers that do the fencing:

  - agent: fence_ipmilan
    params: {ip: 10.0.9.1, username: admin, lanplus: "1"}
    secretFiles: {password: /etc/holdfast/ipmi-password}
    timeout: 20s`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeServers(1),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			req := &pb.UpdateServerRequest{Server: args[0], SetFence: true}
			if args[1] != "none" {
				data, err := a.readFile(args[1])
				if err != nil {
					return err
				}
				if req.Fence, err = fenceDevices(data); err != nil {
					return usagef("%s: %w", args[1], err)
				}
			}
			if _, err := s.servers.UpdateServer(ctx, req); err != nil {
				return err
			}
			a.say("%s: fenced by %s", args[0], plural(len(req.GetFence()), "power device"))
			return nil
		}),
	}
}
