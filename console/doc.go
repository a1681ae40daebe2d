// Command holdfast is the command line of a Holdfast pool: one-shot commands for people and scripts, without cgo and
// without a terminal library, so that it runs on any operator's machine. All of it is in console/cli; here are only
// the process's own streams, signals and terminal.
package main
