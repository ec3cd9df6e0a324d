/* SPDX-License-Identifier: Apache-2.0
 *
 * Every function of the core, declared once: the C files include this header, and build.py gives the
 * same text to cffi. So it holds plain prototypes only; preprocessor lines are dropped on the way.
 *
 * Convention: a negative result is -errno.
 */
#ifndef XL_API_H
#define XL_API_H

struct xl_ring;
struct xl_recorder;
struct xl_stream;
struct xl_spinner;

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

/* xl_fork.c: 0 in the child, its pid in the caller. */
int xl_fork_orphan(void);

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

/* xl_ring.c: one end of a ring; never used by two threads at once. */
uint32_t xl_ring_stride(int layout, uint32_t entry_size);
uint32_t xl_ring_slots(int layout, uint64_t bytes, uint32_t entry_size);
int xl_ring_create(struct xl_ring *ring, void *page, uint64_t bytes, int layout, int side, uint32_t out_size,
		   uint32_t in_size, uint32_t entry_size, uint32_t first);
int xl_ring_attach(struct xl_ring *ring, void *page, uint64_t bytes, int layout, int side, uint32_t out_size,
		   uint32_t in_size, uint32_t entry_size);
void xl_ring_close(struct xl_ring *ring);
int xl_ring_available(struct xl_ring *ring);
int xl_ring_ready(struct xl_ring *ring);
int xl_ring_room(struct xl_ring *ring);
int xl_ring_push(struct xl_ring *ring, const void *entries, uint64_t bytes, uint32_t count);
int xl_ring_pop(struct xl_ring *ring, void *out, uint64_t bytes, uint32_t limit);
int xl_ring_kick(struct xl_ring *ring);
int xl_ring_kick_fd(struct xl_ring *ring, int fd);
int xl_ring_arm(struct xl_ring *ring, uint32_t ahead);

/* xl_recorder.c: a domain's own counters and trace; `memory` has XL_RECORDER_BYTES. */
void xl_recorder_init(void *memory, uint32_t mask);
uint32_t xl_trace_ask(void *memory, uint32_t add, uint32_t drop);
void xl_trace_if(void *memory, int class, int event, int queue, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
		 const void *payload, uint32_t bytes);
void xl_trace(void *memory, int class, int event, int queue, uint32_t a, uint32_t b, uint32_t c, uint32_t d,
	      const void *payload, uint32_t bytes);
uint32_t xl_trace_read(const void *memory, uint64_t *next, void *out, uint32_t limit, int all, uint64_t *lost);
void xl_ring_woke(const struct xl_ring *ring, int hung_up);
void xl_trace_clock(uint32_t clock, uint64_t *ticks, uint64_t *ns);

/* xl_stream.c: one direction of a byte stream, and single shared words. */
int xl_stream_place(struct xl_stream *stream, void *page, uint64_t bytes, uint32_t data, uint32_t size,
		    uint32_t cons, uint32_t prod);
int xl_stream_available(struct xl_stream *stream);
int xl_stream_write(struct xl_stream *stream, const void *bytes, uint64_t length);
int xl_stream_read(struct xl_stream *stream, void *out, uint64_t length);
int xl_stream_kick(struct xl_stream *stream);
int xl_stream_reset(struct xl_stream *stream);
void xl_stream_close(struct xl_stream *stream);
int64_t xl_word_get(const void *page, uint64_t bytes, uint32_t offset);
int xl_word_set(void *page, uint64_t bytes, uint32_t offset, uint32_t value);

/* xl_spin.c */
void xl_spin_init(struct xl_spinner *spinner);
uint32_t xl_spin_length(const struct xl_spinner *spinner, uint32_t limit_ns);
uint32_t xl_spin_plan(struct xl_spinner *spinner, uint32_t limit_ns);
void xl_spin_learn(struct xl_spinner *spinner, int hit, uint32_t spent_ns);
int xl_spin(struct xl_spinner *spinner, struct xl_ring *const *rings, uint32_t count, uint32_t limit_ns);

#endif
