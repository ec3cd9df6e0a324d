/*
 * What a guest without Python needs: hypercalls, start info, the store and the console.
 *
 * Everything here is written against xenlike's docs/hypercalls.md and Xen's public headers, and against
 * nothing else of xenlike than the generated xenlike.h. Every function prints a reason and crashes the
 * domain when something is not as documented.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

/* Xen's ring.h makes its barriers of these, and leaves them to its includer. */
#define mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define wmb() __atomic_thread_fence(__ATOMIC_RELEASE)

#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/console.h>
#include <xen/io/ring.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#include <xen/sched.h>

#include "xenlike.h"

#define PAGE_SIZE 4096
#define FIRST_FREE_GREF GNTTAB_NR_RESERVED_ENTRIES

/* One end of an event channel: readable rx = an event is pending, a byte to tx = notify. */
struct channel {
    evtchn_port_t port;
    int rx, tx;
};

extern struct xenlike_start_info start;

/* Takes the hypercall socket from the environment and maps what the hypervisor hands over. */
void guest_init(void);
/* Prints to the console ring, with a newline. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says why and crashes the domain. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Ends the domain with one of Xen's SHUTDOWN_* reasons. */
void shutdown_domain(uint32_t reason) __attribute__((noreturn));

/* Allocates memory that only `peer` may be granted; *pfn is its first frame. */
void *alloc_window(domid_t peer, uint32_t nr_pages, uint64_t *pfn);
void free_window(uint64_t pfn);
/* Grants one frame for reading and writing; and ends that. */
grant_ref_t grant(domid_t peer, uint64_t pfn);
void end_grant(grant_ref_t ref);

struct channel alloc_unbound(domid_t remote);
void notify(const struct channel *channel);
/* Sleeps until the other end notified, and clears the event. */
void wait_event(const struct channel *channel);

/* Paths are relative to /local/domain/<domid> unless they start with a slash. */
void store_read(const char *path, char *value, size_t size);
unsigned long long store_read_number(const char *path, unsigned long long otherwise);
void store_write(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
void store_watch(const char *path, const char *token);
/* Sleeps until some watch fires. Which one does not matter here: the caller looks again. */
void store_wait(void);

#endif
