// SPDX-License-Identifier: Apache-2.0
//
// Mapping windows: files of memory at addresses that somebody chose. Python's mmap cannot place a mapping.

#include <sys/mman.h>

#include "xl_atomic.h"
#include "xl_api.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static int64_t map(uint64_t address, uint64_t length, int protection, int flags, int fd, uint64_t offset)
{
	void *got = mmap((void *)(uintptr_t)address, length, protection, flags, fd, (off_t)offset);

	if (got == MAP_FAILED)
		return -errno;
	if (address && (uint64_t)(uintptr_t)got != address) {
		/* A kernel before 4.17 takes MAP_FIXED_NOREPLACE as a mere hint. */
		munmap(got, length);
		return -EEXIST;
	}
	return (int64_t)(uintptr_t)got;
}

static int placement(uint64_t address, int replace)
{
	if (!address)
		return 0;
	return replace ? MAP_FIXED : MAP_FIXED_NOREPLACE;
}

/* `replace` may only be set for a range that is ours: MAP_FIXED silently drops what was there. */
int64_t xl_map_shared(int fd, uint64_t length, uint64_t offset, int writable, uint64_t address, int replace)
{
	return map(address, length, PROT_READ | (writable ? PROT_WRITE : 0),
		   MAP_SHARED | placement(address, replace), fd, offset);
}

/* Zeroed memory of our own in place of a shared window, so that late users of the range harm nobody. */
int64_t xl_map_private(uint64_t address, uint64_t length)
{
	return map(address, length, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | placement(address, 1), -1, 0);
}

/* Address space without memory: keeps the range for windows that come later. */
int64_t xl_reserve(uint64_t length, uint64_t address, int replace)
{
	return map(address, length, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | placement(address, replace), -1, 0);
}

int xl_unmap(uint64_t address, uint64_t length)
{
	return munmap((void *)(uintptr_t)address, length) ? -errno : 0;
}
