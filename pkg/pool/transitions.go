package pool

// Writer is who may make a transition of a claim.
type Writer string

// Writers of claims.
const (
	WriterAPI    Writer = "API"
	WriterLeader Writer = "leader"
	WriterOwner  Writer = "owner"
)

// Transition is one change of a claim's phase that somebody may make. PhaseUnspecified stands for a claim that does
// not exist.
type Transition struct {
	From, To Phase
	By       Writer
	// When is the condition, in words.
	When string
}

// Transitions is the one table of what may happen to a claim. docs/state-model.md repeats it; a test compares them.
var Transitions = []Transition{
	{PhaseUnspecified, PhaseUnassigned, WriterAPI, "a VM is registered"},
	{PhaseUnspecified, PhaseAssigned, WriterAPI, "a running domain is registered, to be adopted by its server"},
	{PhaseUnspecified, PhaseHeld, WriterLeader, "the claim was deleted by a stranger; its last owner gets it back, unarmed"},
	{PhaseUnspecified, PhaseAssigned, WriterLeader, "the claim was deleted by a stranger, and nobody reported the VM active"},
	{PhaseUnassigned, PhaseUnspecified, WriterAPI, "the VM is removed"},
	{PhaseUnassigned, PhaseUnassigned, WriterLeader, "a failure is counted, or the VM failed"},
	{PhaseUnassigned, PhaseAssigned, WriterLeader, "it is wanted running and a server fits; epoch + 1"},
	{PhaseAssigned, PhaseHeld, WriterOwner, "the domain exists with stopped CPUs, and the guard holds it if it is protected"},
	{PhaseAssigned, PhaseUnassigned, WriterOwner, "it could not be started, or is not wanted any more"},
	{PhaseAssigned, PhaseUnassigned, WriterLeader, "it is not wanted any more, or its session ended and nobody else fits; it never ran"},
	{PhaseAssigned, PhaseAssigned, WriterLeader, "its session ended, or the server is to be emptied; it never ran; epoch + 1"},
	{PhaseHeld, PhaseHeld, WriterOwner, "armed, disarmed, or re-asserted under a new session"},
	{PhaseHeld, PhaseReleasing, WriterLeader, "a restart or a relocation was asked for"},
	{PhaseHeld, PhaseUnassigned, WriterOwner, "its QEMU was seen dead"},
	{PhaseHeld, PhaseUnassigned, WriterLeader, "its session ended and is fenced, and nobody fits or it is not wanted"},
	{PhaseHeld, PhaseAssigned, WriterLeader, "its session ended and is fenced; epoch + 1"},
	{PhaseHeld, PhaseMigrating, WriterLeader, "a live migration was admitted; incoming names the destination"},
	{PhaseMigrating, PhaseMigrating, WriterOwner, "armed, disarmed, or re-asserted under a new session"},
	{PhaseMigrating, PhaseHeld, WriterOwner, "the migration failed or was cancelled, and the source's QEMU lives"},
	{PhaseMigrating, PhaseHandedOver, WriterOwner, "the source's QEMU is dead and never ran after the copy was complete; server := destination; epoch + 1"},
	{PhaseMigrating, PhaseUnassigned, WriterOwner, "the source's QEMU was seen dead, and the copy is not proven to be as new"},
	{PhaseMigrating, PhaseUnassigned, WriterLeader, "the source's session ended and is fenced, and nobody fits or it is not wanted"},
	{PhaseMigrating, PhaseAssigned, WriterLeader, "the source's session ended and is fenced; epoch + 1"},
	{PhaseHandedOver, PhaseHandedOver, WriterOwner, "disarmed, or re-asserted under a new session"},
	{PhaseHandedOver, PhaseHeld, WriterOwner, "the destination's copy was let go on"},
	{PhaseHandedOver, PhaseUnassigned, WriterOwner, "the destination's copy was seen dead"},
	{PhaseHandedOver, PhaseUnassigned, WriterLeader, "its session ended and is fenced, and nobody fits or it is not wanted"},
	{PhaseHandedOver, PhaseAssigned, WriterLeader, "its session ended and is fenced; epoch + 1"},
	{PhaseReleasing, PhaseReleasing, WriterOwner, "re-asserted under a new session"},
	{PhaseReleasing, PhaseUnassigned, WriterOwner, "its QEMU was seen dead"},
	{PhaseReleasing, PhaseUnassigned, WriterLeader, "its session ended and is fenced, and nobody fits or it is not wanted"},
	{PhaseReleasing, PhaseAssigned, WriterLeader, "its session ended and is fenced; epoch + 1"},
}
