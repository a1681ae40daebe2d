// Package inside is what the lab's engine, outside, and a lab server's first
// process, inside, say to each other: the server's boot plan, read from a file,
// and requests about its processes, over a UNIX socket.
//
// Both use Weigh for what they start.
//
// One connection carries one request and one reply, each a line of JSON.
package inside
