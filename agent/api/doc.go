// Package api answers the services of proto/holdfast/v1 for people and tools: it checks a request, translates it
// into a change of pool records, and commits that as one guarded transaction. Any agent answers any call.
//
// Reads come from the agent's own copy of the pool and carry its revision. Handlers return the errors of pkg/pool;
// pkg/rpc turns them into statuses. A handler decides nothing about placement or recovery: the leader's planner
// does, and the words for states and reasons come from pkg/plan too, so that every face of the pool says the same.
//
// Handlers are plain methods; the simulator calls them without a network. Safe for concurrent use.
package api
