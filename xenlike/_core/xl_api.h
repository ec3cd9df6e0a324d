/* SPDX-License-Identifier: Apache-2.0
 *
 * Every function of the core, declared once: the C files include this header, and build.py gives the
 * same text to cffi. So it holds plain prototypes only; preprocessor lines are dropped on the way.
 *
 * Convention: a negative result is -errno.
 */
#ifndef XL_API_H
#define XL_API_H

/* xl_memory.c: windows of shared memory; an address or -errno. */
int64_t xl_map_shared(int fd, uint64_t length, uint64_t offset, int writable, uint64_t address, int replace);
int64_t xl_map_private(uint64_t address, uint64_t length);
int64_t xl_reserve(uint64_t length, uint64_t address, int replace);
int xl_unmap(uint64_t address, uint64_t length);

/* xl_process.c: what a domain says about itself to the kernel. */
int xl_set_pdeathsig(int signal);
int xl_set_dumpable(int dumpable);
int xl_get_dumpable(void);
int xl_no_new_privs(void);
int xl_set_child_subreaper(int on);
int xl_membarrier_register(void);
int xl_membarrier(void);

/* xl_event.c: event channels; one byte in a pipe is one pending bit. */
int xl_notify(int fd);
int xl_drain(int fd);

/* xl_gnttab.c: grant table v1. */
int xl_gnttab_set(void *table, uint64_t bytes, uint32_t gref, uint16_t domid, uint32_t frame, uint16_t flags);
int xl_gnttab_end(void *table, uint64_t bytes, uint32_t gref);
int xl_gnttab_get(const void *table, uint64_t bytes, uint32_t gref, uint16_t *flags, uint16_t *domid,
		  uint32_t *frame);
int xl_gnttab_pin(void *table, uint64_t bytes, uint32_t gref, uint16_t domid, int readonly, uint32_t *frame);
int xl_gnttab_unpin(void *table, uint64_t bytes, uint32_t gref, uint16_t flags);

#endif
