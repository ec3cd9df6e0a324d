// SPDX-License-Identifier: Apache-2.0
//
// Both ends of every ring on one mapping in one process, for ThreadSanitizer, which knows what a thread may see
// of another's plain writes: only what an acquire of a release has ordered. So the ends meet nowhere else: no
// lock, no pipe, no flag, and where a program would sleep they poll (a pipe would order everything in TSan's
// eyes, and hide what is missing).
//
// TSan does not understand fences. It need not here: a fence of these rings orders an index against an event,
// which are atomic words and no data; what goes wrong without it is a lost wake-up, which the models and
// litmus.c look for. Kick and arm are called all the same: they must not race either.

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "xl_ring.h"
#include "xl_stream.h"
#include "xl_api.h"

enum { ENTRY = 200, BATCH = 32 };

static _Alignas(4096) uint8_t page[4096];
static struct xl_ring first, second;
static struct xl_stream writer, reader;
static unsigned total;

static unsigned below(unsigned *seed, unsigned limit)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 16) % limit;
}

static void must(int condition)
{
	if (!condition) {
		fputs("wrong content or a broken ring\n", stderr);
		abort();
	}
}

static void fill(uint8_t *entry, unsigned number)
{
	memcpy(entry, &number, sizeof(number));
	for (unsigned at = sizeof(number); at < ENTRY; at++)
		entry[at] = (uint8_t)(number * 31 + at);
}

static unsigned number_of(const uint8_t *entry)
{
	uint8_t expected[ENTRY];
	unsigned number;

	memcpy(&number, entry, sizeof(number));
	fill(expected, number);
	must(!memcmp(expected, entry, ENTRY));
	return number;
}

static void *front(void *unused)
{
	static uint8_t entries[BATCH * ENTRY];
	unsigned seed = 1, sent = 0, got = 0;

	while (got < total) {
		unsigned count = 1 + below(&seed, BATCH);
		int done;

		if (count > total - sent)
			count = total - sent;
		for (unsigned i = 0; i < count; i++)
			fill(entries + i * ENTRY, sent + i);
		done = xl_ring_push(&first, entries, sizeof(entries), count);
		must(done >= 0);
		sent += (unsigned)done;
		xl_ring_kick(&first);
		done = xl_ring_pop(&first, entries, sizeof(entries), 1 + below(&seed, BATCH));
		must(done >= 0);
		for (int i = 0; i < done; i++)
			must(number_of(entries + i * ENTRY) == ~(got + (unsigned)i));
		got += (unsigned)done;
		if (!done && !xl_ring_arm(&first, 1 + below(&seed, 3)))
			sched_yield();
	}
	return unused;
}

static void *back(void *unused)
{
	static uint8_t entries[BATCH * ENTRY];
	unsigned seed = 2, taken = 0;

	while (taken < total) {
		int count = xl_ring_pop(&second, entries, sizeof(entries), 1 + below(&seed, BATCH));

		must(count >= 0);
		for (int i = 0; i < count; i++) {
			must(number_of(entries + i * ENTRY) == taken + (unsigned)i);
			fill(entries + i * ENTRY, ~(taken + (unsigned)i));
		}
		taken += (unsigned)count;
		must(xl_ring_push(&second, entries, sizeof(entries), (uint32_t)count) == count);
		xl_ring_kick(&second);
		if (!count && !xl_ring_arm(&second, 1))
			sched_yield();
	}
	return unused;
}

static void *produce(void *unused)
{
	static uint8_t entries[BATCH * ENTRY];
	unsigned seed = 3, sent = 0;

	while (sent < total) {
		unsigned count = 1 + below(&seed, BATCH);
		int done;

		if (count > total - sent)
			count = total - sent;
		for (unsigned i = 0; i < count; i++)
			fill(entries + i * ENTRY, sent + i);
		done = xl_ring_push(&first, entries, sizeof(entries), count);
		must(done >= 0);
		sent += (unsigned)done;
		xl_ring_kick(&first);
		if (!done && !xl_ring_arm(&first, 1 + below(&seed, 3)))
			sched_yield();
	}
	return unused;
}

static void *consume(void *unused)
{
	static uint8_t entries[BATCH * ENTRY];
	unsigned seed = 4, taken = 0;

	while (taken < total) {
		int count = xl_ring_pop(&second, entries, sizeof(entries), 1 + below(&seed, BATCH));

		must(count >= 0);
		for (int i = 0; i < count; i++)
			must(number_of(entries + i * ENTRY) == taken + (unsigned)i);
		taken += (unsigned)count;
		xl_ring_kick(&second);
		if (!count && !xl_ring_arm(&second, 1))
			sched_yield();
	}
	return unused;
}

static void *write_bytes(void *unused)
{
	uint8_t bytes[2000];
	unsigned seed = 5, sent = 0;

	while (sent < total * 50) {
		unsigned count = 1 + below(&seed, sizeof(bytes));
		int done;

		for (unsigned i = 0; i < count; i++)
			bytes[i] = (uint8_t)((sent + i) * 7);
		done = xl_stream_write(&writer, bytes, count);
		must(done >= 0);
		sent += (unsigned)done;
		xl_stream_kick(&writer);
		if (!done)
			sched_yield();
	}
	return unused;
}

static void *read_bytes(void *unused)
{
	uint8_t bytes[2000];
	unsigned seed = 6, taken = 0;

	while (taken < total * 50) {
		int count = xl_stream_read(&reader, bytes, 1 + below(&seed, sizeof(bytes)));

		must(count >= 0);
		for (int i = 0; i < count; i++)
			must(bytes[i] == (uint8_t)((taken + (unsigned)i) * 7));
		taken += (unsigned)count;
		xl_stream_kick(&reader);
		if (!count)
			sched_yield();
	}
	return unused;
}

/* A shared word announces plain data, as xs_wire's `connection` does, and takes it back. */
static void *announce(void *unused)
{
	for (unsigned i = 1; i < total; i++) {
		memset(page + 64, (int)i, 64);
		must(!xl_word_set(page, sizeof(page), 0, i));
		while (xl_word_get(page, sizeof(page), 128) != i)
			sched_yield();
	}
	return unused;
}

static void *listen_to(void *unused)
{
	for (unsigned i = 1; i < total; i++) {
		while (xl_word_get(page, sizeof(page), 0) != i)
			sched_yield();
		must(page[64] == (uint8_t)i && page[127] == (uint8_t)i);
		must(!xl_word_set(page, sizeof(page), 128, i));
	}
	return unused;
}

static void together(void *(*one)(void *), void *(*other)(void *))
{
	pthread_t thread;

	must(!pthread_create(&thread, NULL, one, NULL));
	other(NULL);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	total = (unsigned)atoi(argv[1]);
	for (int layout = XL_LAYOUT_XEN; layout <= XL_LAYOUT_TAG; layout++) {
		must(!xl_ring_create(&first, page, sizeof(page), layout, XL_SIDE_FRONT, ENTRY, ENTRY, ENTRY, 0u - total / 2));
		must(!xl_ring_attach(&second, page, sizeof(page), layout, XL_SIDE_BACK, ENTRY, ENTRY, ENTRY));
		together(front, back);
		if (layout == XL_LAYOUT_TAG)
			continue;
		must(!xl_ring_create(&first, page, sizeof(page), layout, XL_SIDE_PRODUCER, ENTRY, 0, ENTRY, 0u - total / 2));
		must(!xl_ring_attach(&second, page, sizeof(page), layout, XL_SIDE_CONSUMER, 0, ENTRY, ENTRY));
		together(produce, consume);
	}
	memset(page, 0, sizeof(page));
	must(!xl_stream_place(&writer, page, sizeof(page), 0, 1024, 3072, 3076));
	must(!xl_stream_place(&reader, page, sizeof(page), 0, 1024, 3072, 3076));
	together(write_bytes, read_bytes);
	memset(page, 0, sizeof(page));
	together(announce, listen_to);
	puts("done");
	return argc - 2;
}
