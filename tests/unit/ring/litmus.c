// SPDX-License-Identifier: Apache-2.0
//
// The race between going to sleep and producing, as often and as close as two CPUs can make it: both threads
// leave a barrier together, one pushes and kicks, the other arms. If neither notices the other, a real
// program would sleep for ever. Prints how often that happened in each race. With the asymmetric fence it does
// happen, since Linux's membarrier leaves out a CPU at times; then the look of an end that sleeps must find what
// came.

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "xl_ring.h"
#include "xl_stream.h"
#include "xl_api.h"

static atomic_uint arrived[2];

/* Both leave it at once, give or take a cache miss; the delay shifts them against each other. */
static void meet(int who, unsigned delay)
{
	unsigned mine = atomic_fetch_add(&arrived[who], 1) + 1;

	for (unsigned turns = 0; atomic_load(&arrived[!who]) < mine; turns++)
		if (turns > 1000)
			sched_yield();
	while (delay--)
		xl_cpu_relax();
}

static unsigned next(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 16) & 7;
}

static _Alignas(4096) uint8_t page[4096];
static struct xl_ring front, back;
static struct xl_stream writer, reader;
static unsigned rounds;
/* What each thread found out in a round; read by the other one behind the next meeting. */
static int asleep, notified;
static unsigned lost;
static int asymmetric;

static void must(int condition)
{
	if (!condition)
		abort();
}

static void check(void)
{
	if (asleep && !notified)
		lost++;
}

/* A front pushes and kicks, a back with nothing left arms. */
static void *push_against_arm(void *unused)
{
	uint8_t entry[64] = {0};
	unsigned seed = 1;

	for (unsigned round = 0; round < rounds; round++) {
		meet(0, next(&seed));
		must(xl_ring_push(&front, entry, 64, 1) == 1);
		notified = xl_ring_kick(&front);
		meet(0, 0);
		meet(0, 0);
		check();
		must(xl_ring_pop(&front, entry, 64, 1) >= 0);
	}
	return unused;
}

static void *arm_against_push(void *unused)
{
	uint8_t entry[64];
	unsigned seed = 2;

	for (unsigned round = 0; round < rounds; round++) {
		meet(1, next(&seed));
		asleep = !xl_ring_arm(&back, 1);
		meet(1, 0); /* a moment at which the other CPU has no store to itself, as a timer tick of it is */
		if (asymmetric && asleep)
			asleep = !xl_ring_ready(&back);
		meet(1, 0);
		must(xl_ring_pop(&back, entry, 64, 1) == 1);
		must(xl_ring_push(&back, entry, 64, 1) == 1);
	}
	return unused;
}

/* A writer writes into a stream that its reader is about to find empty. */
static void *write_against_last_read(void *unused)
{
	unsigned seed = 3;

	for (unsigned round = 0; round < rounds; round++) {
		must(xl_stream_write(&writer, "1", 1) == 1);
		xl_stream_kick(&writer);
		meet(0, next(&seed));
		must(xl_stream_write(&writer, "2", 1) == 1);
		notified = xl_stream_kick(&writer);
		meet(0, 0);
		check();
		meet(0, 0);
	}
	return unused;
}

static void *last_read_against_write(void *unused)
{
	unsigned seed = 4;
	uint8_t bytes[8];

	for (unsigned round = 0; round < rounds; round++) {
		int got;

		meet(1, next(&seed));
		got = xl_stream_read(&reader, bytes, sizeof(bytes));
		asleep = got == 1 && !xl_stream_read(&reader, bytes, sizeof(bytes));
		meet(1, 0);
		while (xl_stream_read(&reader, bytes, sizeof(bytes)))
			;
		meet(1, 0);
	}
	return unused;
}

/* A reader makes room in a stream that its writer is about to find full. */
static void *last_write_against_read(void *unused)
{
	unsigned seed = 5;

	for (unsigned round = 0; round < rounds; round++) {
		meet(0, next(&seed));
		must(xl_stream_write(&writer, "3", 1) == 1);
		asleep = !xl_stream_write(&writer, "4", 1);
		meet(0, 0);
		check();
		meet(0, 0);
	}
	return unused;
}

static void *read_against_last_write(void *unused)
{
	unsigned seed = 6;
	uint8_t byte;

	for (unsigned round = 0; round < rounds; round++) {
		meet(1, next(&seed));
		must(xl_stream_read(&reader, &byte, 1) == 1);
		notified = xl_stream_kick(&reader);
		meet(1, 0);
		/* one byte short of full again */
		while ((uint32_t)xl_stream_available(&reader) >= reader.size)
			must(xl_stream_read(&reader, &byte, 1) == 1);
		xl_stream_kick(&reader);
		meet(1, 0);
	}
	return unused;
}

static void race(const char *name, void *(*one)(void *), void *(*other)(void *))
{
	pthread_t thread;

	lost = 0;
	arrived[0] = arrived[1] = 0;
	must(!pthread_create(&thread, NULL, one, NULL));
	other(NULL);
	pthread_join(thread, NULL);
	printf("%s %u\n", name, lost);
}

static void set_up_stream(unsigned filled)
{
	static uint8_t bytes[2048];

	memset(page, 0, sizeof(page));
	must(!xl_stream_place(&writer, page, sizeof(page), 0, 1024, 3072, 3076 + 64));
	must(!xl_stream_place(&reader, page, sizeof(page), 0, 1024, 3072, 3076 + 64));
	must(xl_stream_write(&writer, bytes, filled) == (int)filled);
	xl_stream_kick(&writer);
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"xen", "cacheline", "cacheline-tag"};

	rounds = (unsigned)atoi(argv[1]);
	asymmetric = argc > 2;
	if (asymmetric && xl_membarrier_register() < 0) {
		puts("no membarrier");
		return 0;
	}
	for (int layout = XL_LAYOUT_XEN; layout <= XL_LAYOUT_TAG; layout++) {
		must(!xl_ring_create(&front, page, sizeof(page), layout, XL_SIDE_FRONT, 64, 64, 64, 0u - rounds / 2));
		must(!xl_ring_attach(&back, page, sizeof(page), layout, XL_SIDE_BACK, 64, 64, 64));
		front.asymmetric = back.asymmetric = (uint32_t)asymmetric;
		race(names[layout], push_against_arm, arm_against_push);
	}
	if (asymmetric)
		return 0;
	set_up_stream(0);
	race("last-read", write_against_last_read, last_read_against_write);
	set_up_stream(1023);
	race("last-write", last_write_against_read, read_against_last_write);
	return 0;
}
