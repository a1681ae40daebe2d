// Command holdfast-console is the terminal console of a pool. `holdfast` without arguments on a terminal starts it;
// docs/console.md is its manual.
//
// It is a program of its own because the terminal library that it links asks the terminal questions before main
// runs, which no script and no agent should wait for. This package only wires: flags, the terminal, one session for
// each pool. What is shown and asked is in console/ui, what the pool says in console/feed.
package main
