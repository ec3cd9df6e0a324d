// SPDX-License-Identifier: Apache-2.0
//
// Byte streams with the ordering of Linux's drivers/xen/xenbus/xenbus_comms.c. Both indices are read from
// the page every time, as all implementations do, because a reconnect resets them; a peer that lies about
// them garbles its own stream, and no index that passes the check leads out of the data area.

#include "xl_stream.h"
#include "xl_api.h"

int xl_stream_place(struct xl_stream *stream, void *page, uint64_t bytes, uint32_t data, uint32_t size,
		    uint32_t cons, uint32_t prod)
{
	uint8_t *base = page;

	if (!size || (size & (size - 1)) || (uint64_t)data + size > bytes || (uint64_t)cons + 4 > bytes ||
	    (uint64_t)prod + 4 > bytes || (((uintptr_t)base | cons | prod) & 3))
		return -EINVAL;
	memset(stream, 0, sizeof(*stream));
	stream->data = base + data;
	stream->size = size;
	stream->cons = (xl_shared_u32 *)(base + cons);
	stream->prod = (xl_shared_u32 *)(base + prod);
	return 0;
}

enum { MOST_AT_ONCE = 1 << 30 };

static int refuse(const struct xl_stream *stream)
{
	return stream->broken == XL_STREAM_CLOSED ? -EBADF : -EPROTO;
}

static int indices(struct xl_stream *stream, uint32_t *prod, uint32_t *cons)
{
	if (stream->broken)
		return refuse(stream);
	/* acquire, for a writer: the reader is done with the bytes before this index */
	*cons = atomic_load_explicit(stream->cons, memory_order_acquire);
	/* acquire, for a reader: the bytes before this index are complete */
	*prod = atomic_load_explicit(stream->prod, memory_order_acquire);
	if (*prod - *cons > stream->size) {
		stream->broken = XL_STREAM_BROKEN;
		stream->bad_prod = *prod;
		stream->bad_cons = *cons;
		return -EPROTO;
	}
	return 0;
}

int xl_stream_available(struct xl_stream *stream)
{
	uint32_t prod, cons;
	int result = indices(stream, &prod, &cons);

	return result ? result : (int)(prod - cons);
}

/*
 * Copies in as much as fits, until there was no room at a look that came after our index was visible. Had we
 * only written what the first look allowed, the reader might have emptied the ring meanwhile, unasked to
 * notify since it never saw it full, and a writer that waits for room would wait for ever.
 */
int xl_stream_write(struct xl_stream *stream, const void *bytes, uint64_t length)
{
	const uint8_t *from = bytes;
	uint32_t prod, cons, count, at, run;
	int result, done = 0;

	if (length > MOST_AT_ONCE)
		length = MOST_AT_ONCE;
	while (length) {
		result = indices(stream, &prod, &cons);
		if (result)
			return result;
		count = stream->size - (prod - cons);
		if (count > length)
			count = (uint32_t)length;
		if (!count)
			break;
		at = prod & (stream->size - 1);
		run = stream->size - at < count ? stream->size - at : count;
		memcpy(stream->data + at, from, run);
		memcpy(stream->data, from + run, count - run);
		/* the reader sees the bytes before the new index */
		atomic_store_explicit(stream->prod, prod + count, memory_order_release);
		/* the new index is visible before we look whether the reader had caught up, or made room */
		atomic_thread_fence(memory_order_seq_cst);
		/* relaxed: ordered by the fence */
		cons = atomic_load_explicit(stream->cons, memory_order_relaxed);
		/* a reader that is still behind the old index looks again before it sleeps */
		if ((int32_t)(cons - prod) >= 0)
			stream->notify = 1;
		stream->written += count;
		from += count;
		length -= count;
		done += (int)count;
	}
	return stream->broken ? refuse(stream) : done;
}

/* Copies out as much as is there. How many bytes. */
int xl_stream_read(struct xl_stream *stream, void *out, uint64_t length)
{
	uint32_t prod, cons, count, at, run;
	int result = indices(stream, &prod, &cons);

	if (result)
		return result;
	count = prod - cons;
	if (count > length)
		count = (uint32_t)length;
	if (!count)
		return 0;
	at = cons & (stream->size - 1);
	run = stream->size - at < count ? stream->size - at : count;
	memcpy(out, stream->data + at, run);
	memcpy((uint8_t *)out + run, stream->data, count - run);
	/* our reads are done before the writer may write there again */
	atomic_store_explicit(stream->cons, cons + count, memory_order_release);
	/* the new index is visible before we look whether the writer waits for room */
	atomic_thread_fence(memory_order_seq_cst);
	/* relaxed: ordered by the fence */
	prod = atomic_load_explicit(stream->prod, memory_order_relaxed);
	/* only a writer that had found no room at all can be asleep */
	if (prod - cons >= stream->size)
		stream->notify = 1;
	stream->taken += count;
	return (int)count;
}

/* Whether the peer must be notified of what changed since the last kick. */
int xl_stream_kick(struct xl_stream *stream)
{
	int notify = (int)stream->notify;

	stream->notify = 0;
	return notify;
}

/* An empty stream again; for the end that owns the reset (a server at reconnection), while the peer waits. */
int xl_stream_reset(struct xl_stream *stream)
{
	if (stream->broken == XL_STREAM_CLOSED)
		return -EBADF;
	/* relaxed: the release below orders it */
	atomic_store_explicit(stream->cons, 0, memory_order_relaxed);
	/* a peer that sees this index sees the other one */
	atomic_store_explicit(stream->prod, 0, memory_order_release);
	stream->broken = XL_STREAM_FINE;
	stream->notify = 0;
	return 0;
}

void xl_stream_close(struct xl_stream *stream)
{
	stream->broken = XL_STREAM_CLOSED;
}

/* One shared word of a page, such as xs_wire's `connection`. */
int64_t xl_word_get(const void *page, uint64_t bytes, uint32_t offset)
{
	xl_shared_u32 *word = (xl_shared_u32 *)((uintptr_t)page + offset);

	if ((uint64_t)offset + 4 > bytes || ((uintptr_t)word & 3))
		return -EINVAL;
	/* what the peer did before it set the word is visible */
	return atomic_load_explicit(word, memory_order_acquire);
}

int xl_word_set(void *page, uint64_t bytes, uint32_t offset, uint32_t value)
{
	xl_shared_u32 *word = (xl_shared_u32 *)((uintptr_t)page + offset);

	if ((uint64_t)offset + 4 > bytes || ((uintptr_t)word & 3))
		return -EINVAL;
	/* seq_cst: visible after all we did before, and before we look at anything else */
	atomic_store_explicit(word, value, memory_order_seq_cst);
	return 0;
}
