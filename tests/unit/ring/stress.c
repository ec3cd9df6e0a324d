// SPDX-License-Identifier: Apache-2.0
//
// Two processes over one ring, for as long as asked: random batches, sleeps on real event pipes, indices that
// wrap, and one end that is killed at any moment, whereupon the other goes on with a new one over a new ring.
// Every entry is verified. `stress SECONDS SEED` prints what has happened; anything wrong aborts with a line
// that says what.
//
// A game is one choice of ring, layout, fences and entry size. One end, this process, lives through it; the
// other is forked anew for every life of the ring. The survivor never looks at what it has killed: it finds out
// by the hang-up of the event channel, takes what the dead one has published, and begins the next life where
// that ended: a front sends again what was not answered, a producer what was not passed, a writer what was not
// read.

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "xl_ring.h"
#include "xl_stream.h"
#include "xl_api.h"

enum { PAGE = 4096, BATCH = 40, MOST_ENTRY = 1000, STREAM = 1024, WINDOW = 1 << 16, OVERSLEPT_MS = 30000 };
enum kind { RING, ONE_WAY, BYTES };

static struct {
	enum kind kind;
	int layout, asymmetric;
	int second_survives; /* the back, consumer or reader is this process */
	uint32_t entry;
} game;

static struct {
	uint32_t number;  /* of this life in its game; part of every entry */
	uint32_t first;   /* the ring's first index */
	uint32_t start;   /* the first entry or byte of a one-way ring or stream */
	uint32_t quota;   /* how many entries or bytes make the game */
	uint64_t patience; /* the survivor kills the other end after so many turns */
	pid_t other;       /* the survivor's: whom; 0 after that, and in the other end */
	int rx, tx;
	void *page;
} life;

static uint64_t games, lives, kills, sleeps, wraps, moved, late;
static uint64_t seed;
static int has_membarrier;

static uint32_t below(uint32_t limit)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((seed >> 33) % limit);
}

#define must(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s (kind %d layout %d asymmetric %d survivor %d entry %u life %u)\n", \
				__func__, __LINE__, #condition, game.kind, game.layout, game.asymmetric, \
				game.second_survives, game.entry, life.number); \
			abort(); \
		} \
	} while (0)

static void fill(uint8_t *entry, uint32_t number)
{
	uint32_t words[2] = {number, life.number};

	memcpy(entry, words, sizeof(words));
	for (uint32_t at = sizeof(words); at < game.entry; at++)
		entry[at] = (uint8_t)(number * 31 + life.number * 17 + at);
}

static uint32_t number_of(const uint8_t *entry)
{
	uint8_t expected[MOST_ENTRY];
	uint32_t number;

	memcpy(&number, entry, sizeof(number));
	fill(expected, number);
	must(!memcmp(expected, entry, game.entry));
	return number;
}

/* Every turn of every loop: now and then a pause, and in the survivor at last the murder. */
static void turn(void)
{
	uint32_t dice = below(512);

	if (!dice)
		usleep(below(100));
	else if (dice < 8)
		sched_yield();
	if (life.other && !life.patience--) {
		must(!kill(life.other, SIGKILL));
		life.other = 0;
		kills++;
	}
}

/* Sleeps until there is an event. 0: the peer is gone. */
static int wait_for_event(void)
{
	struct pollfd poll_fd = {.fd = life.rx, .events = POLLIN};
	int ready, drained;

	sleeps++;
	do
		ready = poll(&poll_fd, 1, OVERSLEPT_MS);
	while (ready < 0 && errno == EINTR);
	must(ready == 1 && "overslept");
	drained = xl_drain(life.rx);
	must(drained >= 0);
	return !(drained & 2);
}

/* 0: the peer is gone. */
static int kick(struct xl_ring *ring)
{
	int result = xl_ring_kick_fd(ring, life.tx);

	must(result >= 0 || result == -EPIPE);
	return result != -EPIPE;
}

/* ---- Request ring ---- */

static uint8_t in_flight[WINDOW];
static uint32_t asked, answered, oldest;

static void take_responses(struct xl_ring *ring, uint8_t *entries)
{
	int got = xl_ring_pop(ring, entries, BATCH * game.entry, 1 + below(BATCH));

	must(got >= 0);
	for (int i = 0; i < got; i++) {
		uint32_t id = ~number_of(entries + (uint32_t)i * game.entry);

		must(id - oldest < WINDOW && in_flight[id % WINDOW]);
		in_flight[id % WINDOW] = 0;
		answered++;
	}
	while (oldest != asked && !in_flight[oldest % WINDOW])
		oldest++;
}

/* Returns when all is answered or the back is gone. */
static void front(void)
{
	static uint8_t entries[BATCH * MOST_ENTRY];
	struct xl_ring ring;
	uint32_t again = oldest, known = asked; /* of a former life: to be sent again */

	must(!xl_ring_attach(&ring, life.page, PAGE, game.layout, XL_SIDE_FRONT, game.entry, game.entry, game.entry));
	ring.asymmetric = (uint32_t)game.asymmetric;
	while (answered < life.quota) {
		uint32_t want = 1 + below(BATCH), count = 0, room = (uint32_t)xl_ring_room(&ring);
		uint64_t before = ring.popped;

		turn();
		for (; again != known && count < want && count < room; again++)
			if (in_flight[again % WINDOW])
				fill(entries + count++ * game.entry, again);
		for (; again == known && asked < life.quota && asked - oldest < WINDOW && count < want && count < room; count++) {
			in_flight[asked % WINDOW] = 1;
			fill(entries + count * game.entry, asked++);
			again = known = asked;
		}
		must(xl_ring_push(&ring, entries, sizeof(entries), count) == (int)count);
		if (below(2) && !kick(&ring))
			break;
		take_responses(&ring, entries);
		if (ring.popped != before || ring.prod == ring.cons)
			continue;
		if (!kick(&ring))
			break;
		if (!xl_ring_arm(&ring, 1 + below(4)) && !wait_for_event())
			break;
	}
	/* what the dead one has answered stays answered */
	while (xl_ring_available(&ring))
		take_responses(&ring, entries);
	moved += ring.popped;
	late += ring.late;
	wraps += ring.prod < life.first;
}

/* Returns when the front is gone. */
static void back(void)
{
	static uint8_t entries[BATCH * MOST_ENTRY];
	uint32_t held[256], holding = 0;
	struct xl_ring ring;

	must(!xl_ring_attach(&ring, life.page, PAGE, game.layout, XL_SIDE_BACK, game.entry, game.entry, game.entry));
	ring.asymmetric = (uint32_t)game.asymmetric;
	for (;;) {
		int got = xl_ring_pop(&ring, entries, sizeof(entries), 1 + below(BATCH));
		uint32_t count;

		must(got >= 0);
		turn();
		for (int i = 0; i < got; i++)
			held[holding++] = number_of(entries + (uint32_t)i * game.entry);
		must(holding <= ring.nr_slots);
		count = below(3) ? holding : below(holding + 1);
		if (count > BATCH)
			count = BATCH;
		for (uint32_t i = 0; i < count; i++) {
			uint32_t which = below(holding);

			fill(entries + i * game.entry, ~held[which]);
			held[which] = held[--holding];
		}
		must(xl_ring_push(&ring, entries, sizeof(entries), count) == (int)count);
		if (below(2) && !kick(&ring))
			break;
		if (got || holding)
			continue;
		if (!kick(&ring))
			break;
		if (!xl_ring_arm(&ring, 1) && !wait_for_event())
			break;
	}
	moved += ring.popped;
	late += ring.late;
}

/* ---- One-way ring ---- */

static uint32_t passed;

/* Returns when all has been passed or the consumer is gone. */
static void producer(void)
{
	static uint8_t entries[BATCH * MOST_ENTRY];
	struct xl_ring ring;
	uint32_t sent = life.start;

	must(!xl_ring_attach(&ring, life.page, PAGE, game.layout, XL_SIDE_PRODUCER, game.entry, 0, game.entry));
	ring.asymmetric = (uint32_t)game.asymmetric;
	for (;;) {
		uint32_t count = 1 + below(BATCH), wanted, room;
		int done;

		turn();
		if (count > life.quota - sent)
			count = life.quota - sent;
		for (uint32_t i = 0; i < count; i++)
			fill(entries + i * game.entry, sent + i);
		done = xl_ring_push(&ring, entries, sizeof(entries), count);
		must(done >= 0);
		sent += (uint32_t)done;
		if (below(2) && !kick(&ring))
			break;
		if ((uint32_t)done == count && sent != life.quota)
			continue;
		if (!kick(&ring))
			break;
		room = (uint32_t)xl_ring_room(&ring);
		/* at the end it waits for all to be passed */
		wanted = sent == life.quota ? ring.nr_slots : 1 + below(ring.nr_slots);
		if (room >= wanted) {
			if (sent == life.quota)
				break;
			continue;
		}
		if (!xl_ring_arm(&ring, wanted - room) && !wait_for_event())
			break;
	}
	must(xl_ring_room(&ring) >= 0);
	passed = sent - (ring.prod - ring.cons);
	moved += ring.pushed;
	late += ring.late;
	wraps += ring.prod < life.first;
}

/* Returns when the producer is gone. */
static void consumer(void)
{
	static uint8_t entries[BATCH * MOST_ENTRY];
	uint32_t expected = life.start;
	struct xl_ring ring;

	must(!xl_ring_attach(&ring, life.page, PAGE, game.layout, XL_SIDE_CONSUMER, 0, game.entry, game.entry));
	ring.asymmetric = (uint32_t)game.asymmetric;
	for (;;) {
		int got = xl_ring_pop(&ring, entries, sizeof(entries), 1 + below(BATCH));

		must(got >= 0);
		turn();
		for (int i = 0; i < got; i++)
			must(number_of(entries + (uint32_t)i * game.entry) == expected++);
		if (below(2) && !kick(&ring))
			break;
		if (got)
			continue;
		if (!kick(&ring))
			break;
		if (!xl_ring_arm(&ring, 1) && !wait_for_event())
			break;
	}
	moved += ring.popped;
	late += ring.late;
}

/* ---- Byte stream ---- */

static uint8_t byte_at(uint32_t place)
{
	return (uint8_t)(place * 7 + (place >> 8) + life.number);
}

static int kick_stream(struct xl_stream *stream)
{
	int result = xl_stream_kick(stream) ? xl_notify(life.tx) : 1;

	must(result >= 0);
	return result;
}

static void place_stream(struct xl_stream *stream)
{
	must(!xl_stream_place(stream, life.page, PAGE, 0, STREAM, 3072, 3076));
}

static void writer(void)
{
	struct xl_stream stream;
	uint32_t sent = life.start;
	uint8_t bytes[2 * STREAM];

	place_stream(&stream);
	for (;;) {
		uint32_t count = 1 + below(sizeof(bytes));
		int done;

		turn();
		if (count > life.quota - sent)
			count = life.quota - sent;
		for (uint32_t i = 0; i < count; i++)
			bytes[i] = byte_at(sent + i);
		done = xl_stream_write(&stream, bytes, count);
		must(done >= 0);
		sent += (uint32_t)done;
		if (below(2) && !kick_stream(&stream))
			break;
		if ((uint32_t)done == count && sent != life.quota)
			continue;
		if (!kick_stream(&stream))
			break;
		if (sent == life.quota) {
			/* a reader says nothing unless the ring was full: the end is polled for */
			if (!xl_stream_available(&stream))
				break;
			must(xl_drain(life.rx) >= 0);
			if (poll(&(struct pollfd){.fd = life.rx}, 1, 1) == 1)
				break;
			continue;
		}
		if (!wait_for_event())
			break;
	}
	passed = sent - (uint32_t)xl_stream_available(&stream);
	moved += stream.written;
	wraps += *stream.prod < life.first;
}

static void reader(void)
{
	struct xl_stream stream;
	uint32_t expected = life.start;
	uint8_t bytes[2 * STREAM];

	place_stream(&stream);
	for (;;) {
		int got = xl_stream_read(&stream, bytes, 1 + below(sizeof(bytes)));

		must(got >= 0);
		turn();
		for (int i = 0; i < got; i++)
			must(bytes[i] == byte_at(expected++));
		if (below(2) && !kick_stream(&stream))
			break;
		if (got)
			continue;
		if (!kick_stream(&stream) || !wait_for_event())
			break;
	}
	moved += stream.taken;
}

/* ---- Lives and games ---- */

static void play(int second)
{
	static void (*const ends[][2])(void) = {
		[RING] = {front, back}, [ONE_WAY] = {producer, consumer}, [BYTES] = {writer, reader},
	};

	if (has_membarrier)
		must(!xl_membarrier_register());
	ends[game.kind][second]();
}

static void new_page(void)
{
	static const int sides[] = {[RING] = XL_SIDE_FRONT, [ONE_WAY] = XL_SIDE_PRODUCER};
	struct xl_ring ring;

	life.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(life.page != MAP_FAILED);
	if (game.kind == BYTES) {
		memcpy((uint8_t *)life.page + 3072, &life.first, 4);
		memcpy((uint8_t *)life.page + 3076, &life.first, 4);
		return;
	}
	must(!xl_ring_create(&ring, life.page, PAGE, game.layout, sides[game.kind], game.entry,
			     game.kind == RING ? game.entry : 0, game.entry, life.first));
}

/* One ring from its first entry until one end is gone. Whether the other end came to its own end. */
static int live(void)
{
	int there[2], back_again[2], status;
	pid_t child;

	lives++;
	life.number++;
	life.first = 0u - below(3000);
	life.patience = below(8) ? 1 + below(3000) : UINT64_MAX;
	new_page();
	must(!pipe2(there, O_NONBLOCK | O_CLOEXEC) && !pipe2(back_again, O_NONBLOCK | O_CLOEXEC));
	fflush(NULL);
	child = fork();
	must(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(there[1]);
		close(back_again[0]);
		life.rx = there[0];
		life.tx = back_again[1];
		life.other = 0;
		seed ^= life.number * 0x9e3779b97f4a7c15u;
		play(!game.second_survives);
		_exit(0);
	}
	close(there[0]);
	close(back_again[1]);
	life.rx = back_again[0];
	life.tx = there[1];
	life.other = child;
	play(game.second_survives);
	life.other = 0;
	close(life.rx);
	close(life.tx);
	must(!munmap(life.page, PAGE));
	must(waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return 0;
	must(WIFEXITED(status) && !WEXITSTATUS(status) && "the other end failed");
	return 1;
}

static void play_a_game(void)
{
	static const uint32_t sizes[] = {8, 64, 200, 1000};

	games++;
	game.kind = (enum kind)below(3);
	game.layout = (int)below(game.kind == RING ? 3 : 2);
	game.asymmetric = below(2) && has_membarrier;
	game.second_survives = (int)below(2);
	game.entry = sizes[below(4)];
	life.number = 0;
	life.start = 0;
	life.quota = 1000 + below(game.kind == BYTES ? 4000000 : 60000);
	memset(in_flight, 0, sizeof(in_flight));
	asked = answered = oldest = passed = 0;
	for (int i = 0; i < 20; i++) {
		int ended = live();

		if (game.second_survives) {
			/* each first end begins anew, and is done when it says so */
			if (ended)
				return;
			continue;
		}
		life.start = passed;
		if (game.kind == RING ? answered == life.quota : passed == life.quota)
			return;
	}
}

int main(int argc, char **argv)
{
	struct timespec now, end;

	must(argc == 3);
	signal(SIGPIPE, SIG_IGN);
	seed = strtoull(argv[2], NULL, 10);
	has_membarrier = !xl_membarrier_register();
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += atoi(argv[1]);
	do {
		play_a_game();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	printf("games %lu\nlives %lu\nkills %lu\nsleeps %lu\nlate %lu\nwraps %lu\nmoved %lu\n", games, lives, kills, sleeps,
	       late, wraps, moved);
	return 0;
}
