// SPDX-License-Identifier: Apache-2.0
//
// Grant table v1 (xen/include/public/grant_table.h): an array of {flags, domid, frame} in a page that the
// granter writes and the hypervisor reads and marks. Both sides may act at once and one of them is hostile,
// so flags and domid, which share one aligned word, change only by compare-and-swap of that word: a check
// and the mark that depends on it are one step, as in Xen's _set_status_v1() and Linux's
// gnttab_end_foreign_access_ref_v1().

#include "xl_atomic.h"
#include "xl_api.h"

enum {
	GTF_permit_access = 1,
	GTF_type_mask = 3,
	GTF_readonly = 1 << 2,
	GTF_reading = 1 << 3,
	GTF_writing = 1 << 4,
	GTF_sub_page = 1 << 8, /* version 2 only: such an entry cannot be mapped */
};

enum {
	GNTST_okay = 0,
	GNTST_general_error = -1,
	GNTST_bad_gntref = -3,
};

/* A granter that keeps rewriting its entry gets an error instead of our time (Xen allows as many). */
enum { PIN_ATTEMPTS = 5 };

struct entry {
	xl_shared_u32 head; /* flags in the low half, domid in the high one */
	xl_shared_u32 frame;
};

_Static_assert(sizeof(struct entry) == 8, "grant_entry_v1");
_Static_assert(offsetof(struct entry, head) == 0, "grant_entry_v1.flags, .domid");
_Static_assert(offsetof(struct entry, frame) == 4, "grant_entry_v1.frame");

static struct entry *entry_of(const void *table, uint64_t bytes, uint32_t gref)
{
	if (((uintptr_t)table & 7) || gref >= bytes / sizeof(struct entry))
		return NULL;
	return (struct entry *)(uintptr_t)table + gref;
}

static uint16_t flags_of(uint32_t head)
{
	return (uint16_t)head;
}

static uint16_t domid_of(uint32_t head)
{
	return (uint16_t)(head >> 16);
}

/* Granter: the entry must be free. */
int xl_gnttab_set(void *table, uint64_t bytes, uint32_t gref, uint16_t domid, uint32_t frame, uint16_t flags)
{
	struct entry *entry = entry_of(table, bytes, gref);

	if (!entry)
		return -EINVAL;
	/* relaxed: the release below orders it */
	atomic_store_explicit(&entry->frame, frame, memory_order_relaxed);
	/* the hypervisor sees the frame before the flags that make it valid */
	atomic_store_explicit(&entry->head, (uint32_t)domid << 16 | flags, memory_order_release);
	return 0;
}

/* Granter: 1 ended, 0 still in use by the peer. */
int xl_gnttab_end(void *table, uint64_t bytes, uint32_t gref)
{
	struct entry *entry = entry_of(table, bytes, gref);
	uint32_t head;

	if (!entry)
		return -EINVAL;
	/* relaxed: only a first guess for the compare-and-swap */
	head = atomic_load_explicit(&entry->head, memory_order_relaxed);
	do {
		if (flags_of(head) & (GTF_reading | GTF_writing))
			return 0;
		/* seq_cst: no later reuse of the frame moves before the moment at which nobody used it */
	} while (!atomic_compare_exchange_weak_explicit(&entry->head, &head, head & 0xffff0000u,
							memory_order_seq_cst, memory_order_relaxed));
	return 1;
}

/* Either side: one entry as it is now. Head and frame are two reads; only pin makes them belong together. */
int xl_gnttab_get(const void *table, uint64_t bytes, uint32_t gref, uint16_t *flags, uint16_t *domid,
		  uint32_t *frame)
{
	struct entry *entry = entry_of(table, bytes, gref);
	uint32_t head;

	if (!entry)
		return -EINVAL;
	/* the frame is at least as new as the flags that announce it */
	head = atomic_load_explicit(&entry->head, memory_order_acquire);
	*flags = flags_of(head);
	*domid = domid_of(head);
	/* relaxed: ordered by the acquire above */
	*frame = atomic_load_explicit(&entry->frame, memory_order_relaxed);
	return 0;
}

/* Hypervisor: marks the entry in use for `domid` and then reads its frame. A GNTST_* status. */
int xl_gnttab_pin(void *table, uint64_t bytes, uint32_t gref, uint16_t domid, int readonly, uint32_t *frame)
{
	struct entry *entry = entry_of(table, bytes, gref);
	uint32_t head, wanted;
	int attempt;

	if (!entry)
		return GNTST_bad_gntref;
	/* relaxed: only a first guess for the compare-and-swap */
	head = atomic_load_explicit(&entry->head, memory_order_relaxed);
	for (attempt = 0; attempt < PIN_ATTEMPTS; attempt++) {
		if ((flags_of(head) & (GTF_type_mask | GTF_sub_page)) != GTF_permit_access ||
		    domid_of(head) != domid)
			return GNTST_general_error;
		if (!readonly && (flags_of(head) & GTF_readonly))
			return GNTST_general_error;
		wanted = head | GTF_reading | (readonly ? 0 : GTF_writing);
		/* seq_cst: the mark is visible before the frame is read, so that end() and we cannot both win */
		if (atomic_compare_exchange_strong_explicit(&entry->head, &head, wanted, memory_order_seq_cst,
							    memory_order_relaxed)) {
			/* relaxed: read once; a granter that changes it now only misleads itself */
			*frame = atomic_load_explicit(&entry->frame, memory_order_relaxed);
			return GNTST_okay;
		}
	}
	return GNTST_general_error;
}

/* Hypervisor: takes back GTF_reading, GTF_writing or both, and touches nothing else. */
int xl_gnttab_unpin(void *table, uint64_t bytes, uint32_t gref, uint16_t flags)
{
	struct entry *entry = entry_of(table, bytes, gref);
	uint32_t mask = flags & (GTF_reading | GTF_writing);

	if (!entry)
		return -EINVAL;
	/* our last use of the page happens before the granter sees it free */
	atomic_fetch_and_explicit(&entry->head, ~mask, memory_order_release);
	return 0;
}
