// Command shot plays a story (terminal.Story) with the real console on a demo pool, and writes what it keeps: frames
// into a document, pictures as SVG and PNG into a folder. `make screenshots` runs it for the documentation.
package main
