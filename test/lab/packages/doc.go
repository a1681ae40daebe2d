// Package packages installs the Debian package as a user does, in a copy of this machine's root that is thrown away,
// and starts what it installed on a real libvirt.
package packages
