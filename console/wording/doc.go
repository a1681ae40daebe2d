// Package wording is how the command line and the console say what the API tells: states as words, sizes, spans and
// times as people read them. What both say, they say alike.
//
// All of it is text for people without colours; it may be called from anywhere. Nothing here cleans what comes from
// outside: whoever writes to a terminal does.
package wording
