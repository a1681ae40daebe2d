package local

import "errors"

// ErrDiskLocked says that another process holds a lock on a disk of the VM. Never forced; the start is retried.
var ErrDiskLocked = errors.New("disk lock held by another process")

// ErrNoDomain says that the hypervisor knows no such domain.
var ErrNoDomain = errors.New("no such domain")
