package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// addPool adds the commands about the pool as a whole, and `set`, which is about either.
func (a *app) addPool(root *cobra.Command) {
	pool := a.group("pool", "Show and change the pool's settings", "pool")
	pool.AddCommand(a.showPoolCommand(), a.setPoolCommand())
	operation := a.group("operation", "Show operations, wait for them, or cancel them", "see")
	operation.AddCommand(a.showOperationCommand(), a.waitCommand(), a.watchOperationCommand(), a.cancelCommand())
	root.AddCommand(pool, operation, a.loginCommand(), a.identityCommand())
	for _, c := range []*cobra.Command{a.haCommand(), a.freezeCommand(true), a.freezeCommand(false), a.setCommand()} {
		c.GroupID = "pool"
		root.AddCommand(c)
	}
}

func (a *app) haCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "ha on|off [VM...]", Short: "Switch HA of the pool or, with names, of VMs",
		Long: `Switch HA of the pool or, with names, of VMs.

A VM is restarted elsewhere when its server fails only if both are on: its own
HA and the pool's. With names, all of them are switched or none.`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSwitch(a.completeVMs(0)),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			on, err := onOrOff(args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.poolHA(ctx, s, on, why)
			}
			return a.vmHA(ctx, s, args[1:], on, why)
		}),
	}
	whyFlag(cmd, &why)
	return cmd
}

func (a *app) poolHA(ctx context.Context, s *session, on bool, why string) error {
	r, err := s.pool.SetPoolHA(ctx, &pb.SetPoolHARequest{On: on, Why: why})
	if err != nil {
		return err
	}
	a.say("pool %s: HA %s", r.GetConfig().GetName(), haSentence(r.GetConfig(), ""))
	return nil
}

func (a *app) vmHA(ctx context.Context, s *session, vms []string, on bool, why string) error {
	r, err := s.vms.SetVMHA(ctx, &pb.SetVMHARequest{Vms: vms, On: on, Why: why})
	if err != nil {
		return err
	}
	for _, v := range r.GetVms() {
		note := ""
		if v.GetVm().GetHa() && !v.GetProtected() {
			note = ", not protected now: HA of the pool is off or frozen (holdfast status)"
		}
		a.say("%s: HA %s%s", v.GetVm().GetId(), onOff(v.GetVm().GetHa()), note)
	}
	return nil
}

func (a *app) freezeCommand(freeze bool) *cobra.Command {
	var why string
	cmd := &cobra.Command{Use: "freeze", Short: "Pause HA: nothing is fenced, moved or restarted until unfreeze", Args: cobra.NoArgs}
	if !freeze {
		cmd.Use, cmd.Short = "unfreeze", "End a freeze: HA acts again"
	}
	cmd.RunE = a.with(func(ctx context.Context, s *session, _ []string) error {
		r, err := s.pool.SetFreeze(ctx, &pb.SetFreezeRequest{Frozen: freeze, Why: why})
		if err != nil {
			return err
		}
		a.say("pool %s: %s", r.GetConfig().GetName(), frozenSentence(r.GetConfig()))
		return nil
	})
	whyFlag(cmd, &why)
	return cmd
}

// frozenSentence says what a freeze, or its end, means now.
func frozenSentence(c *pb.PoolConfig) string {
	switch {
	case c.GetFrozen():
		return "FROZEN: nothing is fenced, moved or restarted"
	case !c.GetHa():
		return "not frozen; HA is off"
	}
	return "not frozen; HA is on"
}

func (a *app) setPoolCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "set KEY=VALUE...", Short: "Change the pool's settings", Long: "Change the pool's settings.\n\n" + poolSettingsHelp(),
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeSettings(poolSettingValues, true),
		RunE: a.with(func(ctx context.Context, s *session, args []string) error { return a.setPool(ctx, s, args, why) }),
	}
	whyFlag(cmd, &why)
	return cmd
}

// setPool is `pool set KEY=VALUE...` and `set pool KEY=VALUE...`.
func (a *app) setPool(ctx context.Context, s *session, words []string, why string) error {
	set, err := settings(words)
	if err != nil {
		return err
	}
	r, err := s.pool.UpdatePool(ctx, &pb.UpdatePoolRequest{Set: set, Why: why})
	if err != nil {
		return err
	}
	a.say("pool %s: set %s", r.GetConfig().GetName(), strings.Join(words, " "))
	return nil
}

func (a *app) setCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "set VM|pool KEY=VALUE...", Short: "Change settings of a VM or of the pool",
		Long: "Change settings of a VM or of the pool. For a VM that is called \"pool\" write \"vm set\".\n\n" + vmSettingsHelp() + "\n" + poolSettingsHelp(),
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeSet,
		RunE: a.with(func(ctx context.Context, s *session, args []string) error {
			if args[0] == "pool" {
				return a.setPool(ctx, s, args[1:], why)
			}
			if why != "" {
				return usagef("--why is recorded for settings of the pool only")
			}
			return a.setVM(ctx, s, args)
		}),
	}
	whyFlag(cmd, &why)
	return cmd
}
