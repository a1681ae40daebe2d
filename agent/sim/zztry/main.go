package main

import (
	"os"

	"github.com/holdfast-ha/holdfast/agent/sim"
)

func main() { os.Exit(sim.Main(os.Args[1:], os.Stdout, os.Stderr)) }
