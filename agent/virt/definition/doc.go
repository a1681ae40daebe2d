// Package definition reads and rewrites libvirt domain XML: what operators register, what libvirt shows of a
// running domain, and what a VM is created from.
//
// It is pure: text in, text or values out. It keeps every element that it does not know, so a definition does not
// lose what a newer libvirt understands.
//
// What it guarantees:
//
//   - Input is bounded (MaxBytes, maxDepth) and holds no document type, no entities beyond the five of XML, no
//     attribute or single element twice. What libvirt is given is always this package's own rendering of what it
//     checked, never the operator's text.
//   - Read refuses whatever would let two servers write one disk: see refuse.go.
//   - Prepare's result is transient in meaning: it carries the marker and ends with its process.
//
// What it does not: it does not know whether libvirt accepts a definition (package virt asks libvirt), nor whether
// a server has what the definition needs.
package definition
