package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/agent/sim"
)

// simulateCommand plays scenario files. Its flags are the simulator's own.
func simulateCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "simulate [--seed N] [--seeds N] [-v] [--json] FILE...",
		Short:              "play scenario files on a simulated pool: what would happen if ...?",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := sim.Main(args, cmd.OutOrStdout(), cmd.ErrOrStderr()); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}
