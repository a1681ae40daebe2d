package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-ha/holdfast/console/contexts"
	"github.com/holdfast-ha/holdfast/pkg/pool"
	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// completionLimit bounds each call made for a completion.
const completionLimit = time.Second

// completer suggests words for one argument.
type completer = cobra.CompletionFunc

// must is for registering completions: it fails only if a flag's name is misspelt here, which every test would show.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// complete adds the completions of flags that all commands have.
func (a *app) complete(root *cobra.Command) {
	must(root.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		file := a.configFile
		if file == "" {
			file = contexts.Path(a.env.Getenv)
		}
		return contexts.Names(file), cobra.ShellCompDirectiveNoFileComp
	}))
	must(root.RegisterFlagCompletionFunc("agents", cobra.NoFileCompletions))
}

// live asks the pool for names. Whatever goes wrong, there are just no suggestions.
func (a *app) live(ctx context.Context, names func(ctx context.Context, s *session) []string) []string {
	s, err := a.connect(quickly)
	if err != nil {
		return nil
	}
	defer s.close()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionLimit)
	defer cancel()
	return names(ctx, s)
}

func (a *app) vmNames(cmd *cobra.Command) []string {
	return a.live(cmd.Context(), func(ctx context.Context, s *session) []string {
		r, err := s.vms.ListVMs(ctx, &pb.ListVMsRequest{WithoutXml: true})
		if err != nil {
			return nil
		}
		var out []string
		for _, v := range r.GetVms() {
			out = append(out, v.GetVm().GetId()+"\t"+vmLine(v, nil))
		}
		return out
	})
}

func (a *app) serverNames(cmd *cobra.Command) []string {
	return a.live(cmd.Context(), func(ctx context.Context, s *session) []string {
		r, err := s.servers.ListServers(ctx, &pb.ListServersRequest{})
		if err != nil {
			return nil
		}
		var out []string
		for _, v := range r.GetServers() {
			out = append(out, v.GetServer().GetId()+"\t"+serverWords(v))
		}
		return out
	})
}

// completeVMs suggests VMs, each once; at most so many, or any number for 0.
func (a *app) completeVMs(most int) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return suggest(a.vmNames(cmd), args, most)
	}
}

// completeServers suggests servers, each once; at most so many, or any number for 0.
func (a *app) completeServers(most int) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return suggest(a.serverNames(cmd), args, most)
	}
}

func suggest(names, given []string, most int) ([]string, cobra.ShellCompDirective) {
	if most > 0 && len(given) >= most {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	fresh := keep(names, func(n string) bool {
		name, _, _ := strings.Cut(n, "\t")
		return !slices.Contains(given, name)
	})
	return fresh, cobra.ShellCompDirectiveNoFileComp
}

// completeSwitch suggests on and off, and then something else.
func (a *app) completeSwitch(then completer) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return []string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
		}
		return then(cmd, args[1:], toComplete)
	}
}

func (a *app) completeOperations(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ids := a.live(cmd.Context(), func(ctx context.Context, s *session) []string {
		r, err := s.operations.ListOperations(ctx, &pb.ListOperationsRequest{})
		if err != nil {
			return nil
		}
		var out []string
		for _, o := range r.GetOperations() {
			out = append(out, o.GetId()+"\t"+operationLine(o))
		}
		return out
	})
	return suggest(ids, args, 0)
}

// values suggests what a setting may be set to.
type values func(cmd *cobra.Command, key string) []string

// choices reads "high|medium|low" or "on|off: more" out of a setting's help.
func choices(help string) []string {
	head, _, _ := strings.Cut(help, ":")
	if !strings.Contains(head, "|") || strings.Contains(head, " ") {
		return nil
	}
	return strings.Split(head, "|")
}

func helpOf(all [][2]string, key string) string {
	for _, s := range all {
		if s[0] == key {
			return s[1]
		}
	}
	return ""
}

func poolSettingValues(_ *cobra.Command, key string) []string {
	return choices(helpOf(pool.PoolSettings(), key))
}

// vmSettingValues suggests servers for the settings that list them.
func (a *app) vmSettingValues(cmd *cobra.Command, key string) []string {
	if key != "prefer" && key != "require" {
		return choices(helpOf(pool.VMSettings(), key))
	}
	var out []string
	for _, n := range a.serverNames(cmd) {
		name, _, _ := strings.Cut(n, "\t")
		out = append(out, name)
	}
	return out
}

// completeSettings suggests a VM's name first, unless poolWide, then KEY= and, behind the sign, values.
func (a *app) completeSettings(of values, poolWide bool) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		all := pool.PoolSettings()
		if !poolWide {
			if len(args) == 0 {
				return suggest(a.vmNames(cmd), nil, 0)
			}
			all, args = pool.VMSettings(), args[1:]
		}
		return completeSetting(cmd, all, of, args, toComplete)
	}
}

// completeSet is for `set`: a VM or the pool, then the settings of that.
func (a *app) completeSet(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		return append([]string{"pool\tthe pool itself"}, a.vmNames(cmd)...), cobra.ShellCompDirectiveNoFileComp
	case args[0] == "pool":
		return a.completeSettings(poolSettingValues, true)(cmd, args[1:], toComplete)
	}
	return a.completeSettings(a.vmSettingValues, false)(cmd, args, toComplete)
}

// completeSetFlag is for --set of register.
func (a *app) completeSetFlag(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return completeSetting(cmd, pool.VMSettings(), a.vmSettingValues, nil, toComplete)
}

func completeSetting(cmd *cobra.Command, all [][2]string, of values, given []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if key, begun, ok := strings.Cut(toComplete, "="); ok {
		// A list is completed behind its last comma.
		prefix := key + "="
		if i := strings.LastIndexByte(begun, ','); i >= 0 {
			prefix += begun[:i+1]
		}
		var out []string
		for _, v := range of(cmd, key) {
			out = append(out, prefix+v)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, s := range all {
		if !slices.ContainsFunc(given, func(g string) bool { return strings.HasPrefix(g, s[0]+"=") }) {
			out = append(out, s[0]+"=\t"+s[1])
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func vmSettingsHelp() string   { return settingsHelp("Settings of a VM", pool.VMSettings()) }
func poolSettingsHelp() string { return settingsHelp("Settings of the pool", pool.PoolSettings()) }

func settingsHelp(title string, all [][2]string) string {
	longest := 0
	for _, s := range all {
		longest = max(longest, len(s[0]))
	}
	var b strings.Builder
	b.WriteString(title + ":\n")
	for _, s := range all {
		b.WriteString("  " + s[0] + strings.Repeat(" ", longest-len(s[0])) + "  " + s[1] + "\n")
	}
	return b.String()
}
