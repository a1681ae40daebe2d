package pool

// CannotEnd begins the reason of a VM that is to end and whose process does not, though it was killed.
const CannotEnd = "it cannot be ended: "
