// Package ui is the console's screens: a reducer and a renderer, without any input or output of their own.
//
// Model.Update takes one message and returns the next state; what it wants of the world it says as effects, which
// the program around it carries out (Ports). Time comes with messages alone. View draws the state on a grid of cells
// that has exactly the terminal's size, less its rightmost column, so that no text from outside can disturb it: what
// does not fit is cut, what is no plain character is replaced.
//
// The console decides nothing about the pool. Verdicts, plans and refusals are the agents' own words. Whatever
// changes something passes one gate (gate.go), from every key, menu and palette line alike, then a preview, then a
// confirmation whose weight follows what is at stake (docs/console.md). A request is sent once; one whose answer was
// lost is looked for and never repeated.
//
// Only this package and console/tui know the terminal libraries, and key names are strings here. A Model belongs to
// one goroutine.
package ui
