//go:build libvirt_dlopen

package virt

/*
#cgo LDFLAGS: -ldl -lpthread
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

typedef int (*holdfast_step)(void);

static void *holdfast_run(void *step)
{
	for (;;) {
		if (((holdfast_step)step)() < 0)
			usleep(50 * 1000); // it fails only if poll does
	}
	return NULL;
}

// Runs libvirt's event loop in a thread of its own. Returns what went wrong, or NULL.
static const char *holdfast_start(void)
{
	void *lib, *step;
	pthread_t thread;
	sigset_t all, before;
	int failed;

	lib = dlopen("libvirt.so.0", RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		return dlerror();
	step = dlsym(lib, "virEventRunDefaultImpl");
	if (step == NULL)
		return dlerror();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&thread, NULL, holdfast_run, step);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		return "no thread could be started";
	pthread_detach(thread);
	return NULL;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"

	"libvirt.org/go/libvirt"
)

// loop starts libvirt's event loop, which is one for the whole process and never ends. It waits in a thread that the Go
// runtime does not know of: a wait within a call from Go keeps the runtime's monitor awake for 10 ms each time, and the
// keep-alive messages of a few connections, several waits a second, then cost an idle agent as much as all else it does.
var loop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("load libvirt: %w", err)
	}
	if why := C.holdfast_start(); why != nil {
		return fmt.Errorf("start libvirt's event loop: %w", errors.New(C.GoString(why)))
	}
	return nil
})
