// Package cli is the command line `holdfast`: one-shot commands for people and scripts. docs/cli.md is its manual.
//
// Its words are those of the API and of scenario files. Each command is one call of the API, or one read, and its
// printing; nothing about placement or recovery is decided here, and no sentence of the pool is rephrased. A
// command that starts an operation follows it to its end unless told not to, and its exit code tells the outcome
// (Code). A change whose outcome is unknown is read back, never sent again.
//
// What comes from outside is cleaned before it reaches a terminal; every state is a word first, and a colour only
// on a terminal that wants colours. The package writes to the writers in Env alone. A command runs in one goroutine
// beside those of gRPC; Main may be called by several goroutines with Envs of their own.
package cli
