/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared words, and the few helpers that every part of the core uses.
 *
 * A word that another domain can see is an `xl_shared_u32`: C11 atomic, little endian, lock-free. It is
 * read once per decision into a private variable, and only that variable is used afterwards.
 */
#ifndef XL_ATOMIC_H
#define XL_ATOMIC_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef _Atomic uint32_t xl_shared_u32;

_Static_assert(sizeof(xl_shared_u32) == 4, "a shared word has no room for a lock");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "shared words must be lock-free to work between processes");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the ABI is little endian");
_Static_assert(sizeof(void *) == 8, "guest addresses are 64 bits wide");

/* For spin loops: lets the sibling hyperthread run and avoids a mis-speculated exit of the loop. */
static inline void xl_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
