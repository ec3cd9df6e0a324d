/* SPDX-License-Identifier: Apache-2.0
 *
 * Two processes, each pinned to a CPU of its own, and what every contestant has in common: the arguments, the
 * clock, one cache line that bounces between them before and after, and the line of JSON at the end.
 *
 * C and C++ include it, so shared words are plain and used through the compiler's __atomic functions.
 */
#ifndef RACE_H
#define RACE_H

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FRONT = 0, BACK = 1 };
enum { POLL, ADAPTIVE, SLEEP }; /* how an end waits */

static struct race {
	const char *mode; /* reqrsp, roundtrip, oneway */
	unsigned slots, batch, wait, asymmetric;
	unsigned cpu[2];
	double seconds;
} race;

/* What one process tells the other; each end writes lines of its own. */
struct side {
	uint32_t ready;
	uint64_t errors;
	uint64_t sleeps, wakes_for_nothing, notifications, spins_hit, spins_missed;
	uint8_t pad[128 - 56];
} __attribute__((aligned(128)));

struct control {
	struct side side[2];
	uint32_t go __attribute__((aligned(128)));
	uint32_t stop __attribute__((aligned(128)));
	uint64_t total;
	uint32_t line __attribute__((aligned(128)));
	uint64_t end_ns __attribute__((aligned(128)));
};

static struct control *control;
static uint8_t *shared; /* where the ring is; a page boundary */
enum { SHARED_BYTES = 4 << 20 };

/* A hint to the CPU only; every contestant waits with it. */
static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* Both ends leave it together, and as often as they like. */
static void meet(int me)
{
	uint32_t mine = __atomic_add_fetch(&control->side[me].ready, 1, __ATOMIC_SEQ_CST);
	unsigned turns;

	for (turns = 0; __atomic_load_n(&control->side[!me].ready, __ATOMIC_SEQ_CST) < mine; turns++)
		if (turns > 10000)
			sched_yield();
}

/* One line that both write in turn: what the machine can do at all. Round trips of `turns`, in ns. */
static double bounce(int me, uint32_t turns)
{
	uint64_t start;
	uint32_t turn;

	if (me == FRONT)
		__atomic_store_n(&control->line, 0, __ATOMIC_SEQ_CST);
	meet(me);
	start = now_ns();
	for (turn = 0; turn < turns; turn++) {
		if (me == FRONT) {
			__atomic_store_n(&control->line, 2 * turn + 1, __ATOMIC_RELEASE);
			while (__atomic_load_n(&control->line, __ATOMIC_ACQUIRE) != 2 * turn + 2)
				;
		} else {
			while (__atomic_load_n(&control->line, __ATOMIC_ACQUIRE) != 2 * turn + 1)
				;
			__atomic_store_n(&control->line, 2 * turn + 2, __ATOMIC_RELEASE);
		}
	}
	start = now_ns() - start;
	meet(me);
	return (double)start / turns;
}

/*
 * What is in entry number `sequence`: all its words differ, and so do entries. Both sides of every contestant
 * compute it and compare all of it.
 */
static inline uint64_t content(uint64_t sequence, unsigned word)
{
	return (sequence + 1) * 0x9e3779b97f4a7c15u + word * 0xbf58476d1ce4e5b9u;
}

struct entry {
	uint64_t words[ENTRY / 8];
};

static inline void fill(struct entry *entry, uint64_t sequence)
{
	for (unsigned word = 0; word < ENTRY / 8; word++)
		entry->words[word] = content(sequence, word);
}

/* 0 if the entry is what it should be. */
static inline uint64_t differs(const struct entry *entry, uint64_t sequence)
{
	uint64_t difference = 0;

	for (unsigned word = 0; word < ENTRY / 8; word++)
		difference |= entry->words[word] ^ content(sequence, word);
	return difference;
}

/* Responses have contents of their own. */
#define RESPONSE (UINT64_C(1) << 62)

/* Round trips one by one: counts by their length, in 1/16 steps of powers of two. */
static uint32_t histogram[64 * 16];

static inline void note(uint64_t ns)
{
	unsigned top = ns < 16 ? 4 : 63 - (unsigned)__builtin_clzll(ns);

	histogram[top * 16 + ((ns >> (top - 4)) & 15)]++;
}

static double percentile(double share)
{
	uint64_t all = 0, seen = 0;
	unsigned bin;

	for (bin = 0; bin < 64 * 16; bin++)
		all += histogram[bin];
	for (bin = 0; bin < 64 * 16; bin++) {
		seen += histogram[bin];
		if (seen && (double)seen >= share * (double)all)
			return (double)((UINT64_C(16) + bin % 16) << (bin / 16)) / 16;
	}
	return 0;
}

static void parse(int argc, char **argv)
{
	static const char *const waits[] = {"poll", "adaptive", "sleep"};

	if (argc != 9) {
		fprintf(stderr, "usage: %s MODE SLOTS BATCH poll|adaptive|sleep ASYMMETRIC CPU CPU SECONDS\n", argv[0]);
		exit(2);
	}
	race.mode = argv[1];
	race.slots = (unsigned)atoi(argv[2]);
	race.batch = (unsigned)atoi(argv[3]);
	for (race.wait = POLL; race.wait < SLEEP && strcmp(argv[4], waits[race.wait]); race.wait++)
		;
	race.asymmetric = (unsigned)atoi(argv[5]);
	race.cpu[0] = (unsigned)atoi(argv[6]);
	race.cpu[1] = (unsigned)atoi(argv[7]);
	race.seconds = atof(argv[8]);
}

/* Memory that both processes have at the same address, there before either touches it. */
static void *share(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

/*
 * Runs `ends[FRONT]` here and `ends[BACK]` in a child, between two measurements of the bouncing line. An end
 * returns how many entries it has had, the front also the time that took (in control->end_ns).
 */
static int run(uint64_t (*const ends[2])(void))
{
	double before, after = 0;
	uint64_t had = 0;
	pid_t parent = getpid(), child = fork();
	int me = child ? FRONT : BACK, status;

	if (child < 0)
		die("fork");
	if (me == BACK) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(2);
	}
	pin(race.cpu[me]);
	before = bounce(me, 4000);
	meet(me);
	had = ends[me]();
	meet(me);
	after = bounce(me, 4000);
	if (me == BACK)
		_exit(0);
	if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "the other end has died\n");
		return 2;
	}
	printf("{\"entries\": %llu, \"seconds\": %.9f, \"errors\": %llu, \"line_before_ns\": %.1f, "
	       "\"line_after_ns\": %.1f, \"p50_ns\": %.1f, \"p99_ns\": %.1f",
	       (unsigned long long)had, (double)control->end_ns / 1e9,
	       (unsigned long long)(control->side[0].errors + control->side[1].errors), before, after, percentile(0.5),
	       percentile(0.99));
#define SUM(name) printf(", \"" #name "\": %llu", (unsigned long long)(control->side[0].name + control->side[1].name))
	SUM(sleeps);
	SUM(wakes_for_nothing);
	SUM(notifications);
	SUM(spins_hit);
	SUM(spins_missed);
	puts("}");
	return 0;
}

#endif
