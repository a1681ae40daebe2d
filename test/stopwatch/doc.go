// Package stopwatch holds real time against a bound in tests. A machine that runs tests stands still now and then, for a
// second or more; that can make one round slow, but hardly three in a row, while code that is too slow is so in every round.
package stopwatch
