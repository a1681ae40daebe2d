// Package contexts finds out which pool the command line and the console talk to, and with which certificates.
//
// In this order: addresses or a context named by flag, the same from the environment, the default context of the
// operator's own file (~/.config/holdfast/config.yaml), what `holdfast-agent init` and `join` wrote on a server
// (/etc/holdfast/client.yaml), and at last the demo pool's addresses on loopback. The first that is there is
// used; if its agents do not answer, nothing else is tried, so that nobody acts on another pool by accident.
// docs/cli.md describes the file.
//
// The package reads files; it connects to nothing. Its functions are safe for concurrent use.
package contexts
