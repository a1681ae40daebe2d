// Package statefile replaces files as a whole, so that a reader sees the old one or the new one and never a part, and
// keeps JSON values in such files. What a process leaves for its successor on the same server is kept this way.
package statefile
