// Package packages installs the Debian package as a user does, in a copy of this machine's root that is thrown away, and
// makes a pool of real libvirt servers with what it installed, by the README's commands.
package packages
