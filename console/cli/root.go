package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/cli/text"
	"github.com/holdfast-ha/holdfast/pkg/rpc"
)

// app is one run of the command line.
type app struct {
	env *Env
	// Flags of every command.
	agents, context, configFile string
	readOnly                    bool
	// begun: the words were understood; errors from here on are not mistakes in them.
	begun bool
}

// Main runs one command line and returns its exit code. ctx ends when the user interrupts.
func Main(ctx context.Context, env Env, args []string) int {
	a := &app{env: &env}
	root := a.root()
	root.SetArgs(args)
	ran, err := root.ExecuteContextC(ctx)
	if err != nil && !a.begun {
		err = &usageError{err: oneLine(err), help: usageOf(ran)}
	}
	report(env.Err, "", err)
	return Code(err)
}

// usageOf is how a command is written.
func usageOf(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " --help"
	}
	use := strings.TrimSuffix(cmd.UseLine(), " [flags]")
	return use + " (more: " + cmd.CommandPath() + " --help)"
}

// oneLine makes cobra's list of similar commands part of the sentence.
func oneLine(err error) error {
	head, similar, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if !ok {
		return err
	}
	return fmt.Errorf("%s; did you mean %s?", head, strings.Join(strings.Fields(similar), ", "))
}

// group is a command that only holds others.
func (a *app) group(use, short, id string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, GroupID: id, SuggestionsMinimumDistance: 2, RunE: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		similar := ""
		if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
			similar = "; did you mean " + strings.Join(names, ", ") + "?"
		}
		return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), similar)
	})}
}

const rootLong = `Holdfast keeps virtual machines running when servers fail.

This is its command line. It talks to any agent of a pool; all of them answer
for the whole pool. The same words work in the console and in scenario files.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "holdfast", Short: "Run a Holdfast pool from the command line", Long: rootLong,
		SilenceErrors: true, SilenceUsage: true, Version: a.env.Version,
		RunE: a.run(a.bare),
	}
	root.SetIn(a.env.In)
	root.SetOut(a.env.Out)
	root.SetErr(a.env.Err)
	root.SetVersionTemplate("holdfast {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = false
	flags := root.PersistentFlags()
	flags.StringVar(&a.agents, "agents", "", "agents to talk to, `host:port,...`; any one of the pool will do (HOLDFAST_AGENTS)")
	flags.StringVar(&a.context, "context", "", "`name` of a context of the configuration file (HOLDFAST_CONTEXT)")
	flags.StringVar(&a.configFile, "config", "", "configuration `file` instead of ~/.config/holdfast/config.yaml")
	flags.BoolVar(&a.readOnly, "read-only", false, "send nothing that changes anything")
	root.AddGroup(&cobra.Group{ID: "see", Title: "See:"}, &cobra.Group{ID: "vm", Title: "VMs:"},
		&cobra.Group{ID: "server", Title: "Servers:"}, &cobra.Group{ID: "pool", Title: "The pool:"})
	a.addReads(root)
	a.addVMs(root)
	a.addServers(root)
	a.addPool(root)
	root.AddCommand(a.drillCommand())
	root.AddCommand(manCommand())
	addTopics(root)
	a.complete(root)
	return root
}

// run wraps a command: from there on the words are understood.
func (a *app) run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.begun = true
		err := f(cmd, args)
		var usage *usageError
		if errors.As(err, &usage) && usage.help == "" {
			usage.help = usageOf(cmd)
		}
		return err
	}
}

// with wraps a command that talks to the pool.
func (a *app) with(f func(ctx context.Context, s *session, args []string) error) func(*cobra.Command, []string) error {
	return a.run(func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(rpc.Limits{})
		if err != nil {
			return err
		}
		defer s.close()
		return f(cmd.Context(), s, args)
	})
}

// bare is `holdfast` alone: the console on a terminal, else how the pool is, and where to read on.
func (a *app) bare(cmd *cobra.Command, args []string) error {
	if a.env.Console != nil && a.env.OutTerminal != nil && a.env.InTerminal {
		if err := a.env.Console(a.consoleFlags()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := a.with(func(ctx context.Context, s *session, _ []string) error {
		return a.print(ctx, s, statusList, &filter{}, formatTable)
	})(cmd, args)
	if err == nil {
		fmt.Fprintln(a.env.Err, "\nholdfast --help lists the commands")
	}
	return err
}

// consoleFlags are the flags of this run that the console has as well.
func (a *app) consoleFlags() []string {
	var out []string
	for _, f := range [][2]string{{"--agents", a.agents}, {"--context", a.context}, {"--config", a.configFile}} {
		if f[1] != "" {
			out = append(out, f[0], f[1])
		}
	}
	if a.readOnly {
		out = append(out, "--read-only")
	}
	return out
}

// page is what the present terminal wants.
func (a *app) page(wide bool) page {
	return page{now: a.env.Now(), width: a.env.width(), wide: wide, paint: painter(a.env.colours())}
}

// print reads a list once and prints it.
func (a *app) print(ctx context.Context, s *session, l *list, f *filter, out format) error {
	st, message, err := l.fetch(ctx, s, f)
	if err != nil {
		return err
	}
	if out.forScripts() {
		return writeMessage(a.env.Out, out, message)
	}
	_, err = fmt.Fprintln(a.env.Out, strings.Join(l.lay(a.page(out == formatWide), st, f), "\n"))
	return err
}

// addTopics adds help that is not about a command.
func addTopics(root *cobra.Command) {
	for _, t := range []struct{ name, short, long string }{
		{"exit-codes", "What each exit code means", exitHelp},
		{"contexts", "How the command line finds the pool", contextHelp},
	} {
		root.AddCommand(&cobra.Command{Use: t.name, Short: t.short, Long: t.long})
	}
}

const contextHelp = `Which pool a command talks to, the first of these that is given:

  1. --agents host:port,... or --context NAME (both: these addresses with the
     certificates of that context)
  2. HOLDFAST_AGENTS or HOLDFAST_CONTEXT in the environment
  3. the default context of ~/.config/holdfast/config.yaml
  4. on a server of a pool: /etc/holdfast/client.yaml, which holdfast-agent
     init and join write
  5. the demo's addresses on this machine

An example of the file; an unknown key is refused:

  default: prod-a
  contexts:
    - name: prod-a
      agents: [hv-01:7400, hv-02:7400, hv-03:7400]
      ca: prod-a/ca.crt        # relative to this file
      cert: prod-a/kim.crt
      key: prod-a/kim.key
      label: PROD              # shown with every question
      read_only: false         # true: changes are refused here

Without certificates only agents on this machine's loopback are talked to.`

// say prints a line for people.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.env.Out, text.Clean(fmt.Sprintf(format, args...)))
}

// readFile reads a file named on the command line; "-" is standard input.
func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return readAll(a.env.In)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return data, nil
}
