package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/pkg/rpc"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return data, nil
}

// addReads adds the commands that only look.
func (a *app) addReads(root *cobra.Command) {
	root.AddCommand(
		a.whoamiCommand(),
		a.topCommand(),
		a.listCommand(statusList, func(*cobra.Command, *filter) {}),
		a.listCommand(serverList, func(c *cobra.Command, f *filter) { a.stateFlag(c, f, words(pb.ServerState(0))) }),
		a.listCommand(vmList, func(c *cobra.Command, f *filter) {
			a.serverFlag(c, f)
			a.stateFlag(c, f, words(pb.VMStatus(0)))
		}),
		a.listCommand(operationList, func(c *cobra.Command, f *filter) {
			a.serverFlag(c, f)
			a.vmFlag(c, f)
			c.Flags().BoolVar(&f.running, "running", false, "only those that have not ended")
			c.Flags().IntVar(&f.limit, "limit", 0, "at most so many, the latest (0: all that are kept)")
		}),
		a.listCommand(eventList, func(c *cobra.Command, f *filter) {
			a.serverFlag(c, f)
			a.vmFlag(c, f)
			c.Flags().StringVar(&f.kind, "kind", "", "only events of this `code`, such as SERVER_LOST")
			c.Flags().BoolVar(&f.audit, "audit", false, "only calls that changed something: who, from where, by which request, what was before and after")
			c.Flags().IntVar(&f.limit, "limit", 30, "at most so many, the latest (0: all that are kept)")
		}),
		a.listCommand(alertList, func(c *cobra.Command, f *filter) {
			a.serverFlag(c, f)
			a.vmFlag(c, f)
		}),
		a.incidentCommand(),
		a.bundleCommand(),
	)
}

func (a *app) listCommand(l *list, flags func(*cobra.Command, *filter)) *cobra.Command {
	var f filter
	var watch bool
	out := formatTable
	cmd := &cobra.Command{Use: l.name, Short: l.short, GroupID: "see", Args: cobra.NoArgs, RunE: a.run(func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return a.with(func(ctx context.Context, s *session, _ []string) error {
			if watch {
				return a.watch(ctx, s, l, &f, out)
			}
			return a.print(ctx, s, l, &f, out)
		})(cmd, nil)
	})}
	outputFlag(cmd, &out)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing what changes, until interrupted")
	flags(cmd, &f)
	return cmd
}

func outputFlag(cmd *cobra.Command, out *format) {
	cmd.Flags().VarP(out, "output", "o", "table, wide (all columns, nothing cut), json or yaml (the API's messages)")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
}

func (a *app) serverFlag(c *cobra.Command, f *filter) {
	c.Flags().StringVar(&f.server, "server", "", "only what concerns this `server`")
	must(c.RegisterFlagCompletionFunc("server", a.completeServers(1)))
}

func (a *app) vmFlag(c *cobra.Command, f *filter) {
	c.Flags().StringVar(&f.vm, "vm", "", "only what concerns this `VM`")
	must(c.RegisterFlagCompletionFunc("vm", a.completeVMs(1)))
}

func (a *app) stateFlag(c *cobra.Command, f *filter, known []string) {
	c.Flags().StringSliceVar(&f.states, "state", nil, "only those in one of these `states`: "+strings.Join(known, ", "))
	must(c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)))
	c.Annotations = map[string]string{"states": strings.Join(known, ",")}
}

// check refuses a state that there is not: it would match nothing, silently.
func (f *filter) check(cmd *cobra.Command) error {
	known := strings.Split(cmd.Annotations["states"], ",")
	for _, s := range f.states {
		if !slices.Contains(known, s) {
			return usagef("no state %q; there are %s", s, strings.Join(known, ", "))
		}
	}
	if f.limit < 0 {
		return usagef("--limit %d: must be 0 (all) or more", f.limit)
	}
	return nil
}

// quickly bounds what completion waits for: a prompt that hangs is worse than one without suggestions.
var quickly = rpc.Limits{Connect: completionLimit, Read: completionLimit}
