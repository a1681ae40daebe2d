package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const modulePath = "github.com/holdfast-ha/holdfast"

// runDir holds what a reboot of the machine may forget.
func (o Options) runDir() string { return "/run/holdfast-lab" + o.suffix() }

// dataDir holds the servers' disks and the shared storage.
func (o Options) dataDir() string { return "/var/lib/holdfast-lab" + o.suffix() }

func (o Options) lockFile() string { return "/run/lock/holdfast-lab" + o.suffix() + ".lock" }

// bridge and link names are at most 15 characters long.
func (o Options) bridge() string { return "hfbr" + o.Name }

func (o Options) link(n int) string { return fmt.Sprintf("hf%sv%d", o.Name, n) }

// sourceDir finds this repository: above the working directory, above the
// running program, or where this file was compiled.
func sourceDir() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
				return dir, nil
			}
		}
	}
	return "", errors.New("the lab builds its guest from source: run it inside the repository")
}

// writeFile writes a file whatever the umask.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// makeDirs makes directories whatever the umask.
func makeDirs(mode os.FileMode, dirs ...string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, mode); err != nil {
			return err
		}
		if err := os.Chmod(d, mode); err != nil {
			return err
		}
	}
	return nil
}
