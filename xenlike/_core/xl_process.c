// SPDX-License-Identifier: Apache-2.0
//
// prctl and membarrier: what a domain tells the kernel about itself before it runs anybody's code.

#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "xl_atomic.h"
#include "xl_api.h"

/* prctl is variadic and reads unsigned longs; plain ints would leave the upper halves undefined. */
static int control(int option, unsigned long argument)
{
	return prctl(option, argument, 0UL, 0UL, 0UL) < 0 ? -errno : 0;
}

int xl_set_pdeathsig(int signal)
{
	return control(PR_SET_PDEATHSIG, (unsigned long)signal);
}

int xl_set_dumpable(int dumpable)
{
	return control(PR_SET_DUMPABLE, (unsigned long)dumpable);
}

int xl_get_dumpable(void)
{
	int value = prctl(PR_GET_DUMPABLE, 0UL, 0UL, 0UL, 0UL);

	return value < 0 ? -errno : value;
}

int xl_no_new_privs(void)
{
	return control(PR_SET_NO_NEW_PRIVS, 1UL);
}

int xl_set_child_subreaper(int on)
{
	return control(PR_SET_CHILD_SUBREAPER, (unsigned long)on);
}

int xl_membarrier_register(void)
{
	return syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}

/* A full barrier on every CPU that runs a registered process right now; the caller's own included. */
int xl_membarrier(void)
{
	return syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}
