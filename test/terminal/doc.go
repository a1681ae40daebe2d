// Package terminal runs the real holdfast-console on a terminal that is emulated in memory, against a simulated pool
// that lives in the same process and is driven by a scenario. What is asserted is the screen, not the bytes.
//
// Terminal is the emulator with the program on it; Demo is the pool; SVG and PNG draw the emulator's cells, which is
// how the pictures in the documentation are made (the command test/terminal/shot). Only tests and that command use it.
package terminal
