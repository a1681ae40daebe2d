// Package measure takes Holdfast's figures on a lab: how long a VM is gone when its server loses power, and what an
// agent costs while nothing happens. It prints tables and writes nothing else.
package measure
