// Package text lays out what the command line prints: it cleans what comes from outside, measures it, fits tables
// into a width and wraps sentences.
//
// Whatever it is given, it returns lines without control, escape or direction characters, none wider than asked
// for. It knows nothing of pools. Its functions have no side effects and are safe for concurrent use.
package text
