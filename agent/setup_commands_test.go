package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestInitTakesEverythingThatAnExternalEtcdAsksFor(t *testing.T) {
	cmd := initCommand()
	for _, flag := range []string{"etcd", "etcd-ca", "etcd-cert", "etcd-key", "etcd-username", "etcd-password-file"} {
		if cmd.Flags().Lookup(flag) == nil {
			t.Errorf("no flag --%s", flag)
		}
	}
	for args, want := range map[string]string{
		"--pool p --etcd https://e:2379 --etcd-cert c":      "etcd-key",
		"--pool p --etcd https://e:2379 --etcd-username u":  "etcd-password-file",
		"--pool p --etcd-ca ca.crt":                         "name it with --etcd",
		"--pool p --etcd-username u --etcd-password-file f": "name it with --etcd",
	} {
		cmd := initCommand()
		cmd.SilenceUsage = true
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&bytes.Buffer{})
		cmd.SetArgs(strings.Fields(args))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
