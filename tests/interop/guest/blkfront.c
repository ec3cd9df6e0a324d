/*
 * A block frontend in C, on Xen's own headers, as a guest of xenlike.
 *
 *     blkfront VDEV-NUMBER FIRST-INDEX REQUESTS
 *
 * It connects a disk by the xenstore handshake that blkif.h describes, with all four shared indices of
 * the ring preset to FIRST-INDEX (Linux's backend attaches there after a resume; a number just below
 * 2^32 lets them wrap). Then it reads REQUESTS regions of the disk, writes other bytes to every one,
 * reads them back, with a ring full of requests in flight, flushes, and disconnects.
 *
 * Region r is STRIDE sectors from r * STRIDE on; request r moves its first 1 to 88 sectors, in 1 to 11
 * segments. The eight bytes at 8 * w of the disk are word(w, generation): generation 0 is what the
 * test put into the image, 1 what this program writes.
 */
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xen/io/blkif.h>

#define MAX_SEGMENTS BLKIF_MAX_SEGMENTS_PER_REQUEST
#define SECTORS_PER_PAGE (PAGE_SIZE / 512)
#define STRIDE (MAX_SEGMENTS * SECTORS_PER_PAGE)
#define SLOTS __CONST_RING_SIZE(blkif, PAGE_SIZE)

static blkif_front_ring_t ring;
static struct channel channel;
/* Slot i of the pool belongs to whatever request is in flight with id i. */
static char *pool;
static grant_ref_t grefs[SLOTS][MAX_SEGMENTS];
static int region_of[SLOTS], free_slots[SLOTS], nr_free;
static unsigned long wraps, notifications;

static uint64_t word(uint64_t index, unsigned generation)
{
    uint64_t x = index + generation * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 29);
}

/* Every segment moves a whole page, but for a request's last, which moves 1 to 8 sectors at the page's end. */
static unsigned segments_of(int region)
{
    return 1 + region % MAX_SEGMENTS;
}

static unsigned sectors_of(int region, unsigned segment)
{
    return segment + 1 < segments_of(region) ? SECTORS_PER_PAGE : 1 + (unsigned)region % SECTORS_PER_PAGE;
}

static unsigned total_sectors(int region)
{
    return (segments_of(region) - 1) * SECTORS_PER_PAGE + sectors_of(region, segments_of(region) - 1);
}

static unsigned first_sector(int region, unsigned segment)
{
    return SECTORS_PER_PAGE - sectors_of(region, segment);
}

/* Where in the pool the words of a segment are. */
static uint64_t *words_of(int slot, int region, unsigned segment)
{
    char *page = pool + (slot * MAX_SEGMENTS + segment) * PAGE_SIZE;
    return (uint64_t *)(page + first_sector(region, segment) * 512);
}

static void fill(int slot, int region, unsigned generation)
{
    uint64_t index = (uint64_t)region * STRIDE * 64;
    for (unsigned s = 0; s < segments_of(region); s++) {
        uint64_t *to = words_of(slot, region, s);
        for (unsigned i = 0; i < sectors_of(region, s) * 64; i++)
            *to++ = word(index++, generation);
    }
}

static void check(int slot, int region, unsigned generation)
{
    uint64_t index = (uint64_t)region * STRIDE * 64;
    for (unsigned s = 0; s < segments_of(region); s++) {
        const uint64_t *at = words_of(slot, region, s);
        for (unsigned i = 0; i < sectors_of(region, s) * 64; i++, at++, index++)
            if (*at != word(index, generation))
                die("region %d, word %llu: %#llx where %#llx was expected", region,
                    (unsigned long long)index, (unsigned long long)*at,
                    (unsigned long long)word(index, generation));
    }
}

static void push(uint8_t operation, int region, int slot)
{
    if (ring.req_prod_pvt == UINT32_MAX)
        wraps++;
    blkif_request_t *request = RING_GET_REQUEST(&ring, ring.req_prod_pvt++);
    memset(request, 0, sizeof *request);
    request->operation = operation;
    request->id = slot;
    if (region < 0) /* a flush */
        return;
    request->nr_segments = segments_of(region);
    request->sector_number = (blkif_sector_t)region * STRIDE;
    for (unsigned s = 0; s < request->nr_segments; s++) {
        request->seg[s].gref = grefs[slot][s];
        request->seg[s].first_sect = first_sector(region, s);
        request->seg[s].last_sect = first_sector(region, s) + sectors_of(region, s) - 1;
    }
}

static void kick(void)
{
    int needed;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&ring, needed);
    if (needed) {
        notifications++;
        notify(&channel);
    }
}

typedef void (*done_fn)(int slot, int region, unsigned generation);

/* Takes all responses there are, at least one; calls `done` for each. */
static void collect(uint8_t operation, done_fn done, unsigned generation)
{
    int more;
    for (;;) {
        RING_IDX prod = __atomic_load_n(&ring.sring->rsp_prod, __ATOMIC_ACQUIRE);
        if (RING_RESPONSE_PROD_OVERFLOW(&ring, prod))
            die("rsp_prod %u is beyond what was asked (rsp_cons %u)", prod, ring.rsp_cons);
        if (prod != ring.rsp_cons) {
            while (ring.rsp_cons != prod) {
                blkif_response_t response;
                RING_COPY_RESPONSE(&ring, ring.rsp_cons++, &response);
                if (response.id >= SLOTS || region_of[response.id] == -2)
                    die("a response for id %llu, which is not in flight", (unsigned long long)response.id);
                if (response.operation != operation || response.status != BLKIF_RSP_OKAY)
                    die("operation %u, region %d: status %d for operation %u", operation,
                        region_of[response.id], response.status, response.operation);
                if (done)
                    done(response.id, region_of[response.id], generation);
                region_of[response.id] = -2;
                free_slots[nr_free++] = response.id;
            }
            return;
        }
        RING_FINAL_CHECK_FOR_RESPONSES(&ring, more);
        if (!more)
            wait_event(&channel);
    }
}

static void run(uint8_t operation, int regions, unsigned generation)
{
    int next = 0;
    while (next < regions || nr_free < (int)SLOTS) {
        while (next < regions && nr_free) {
            int slot = free_slots[--nr_free];
            region_of[slot] = next;
            if (operation == BLKIF_OP_WRITE)
                fill(slot, next, generation);
            push(operation, next++, slot);
        }
        kick();
        collect(operation, operation == BLKIF_OP_READ ? check : NULL, generation);
    }
}

static void flush(void)
{
    int slot = free_slots[--nr_free];
    region_of[slot] = -1;
    push(BLKIF_OP_FLUSH_DISKCACHE, -1, slot);
    kick();
    collect(BLKIF_OP_FLUSH_DISKCACHE, NULL, 0);
}

/* ---- xenbus ------------------------------------------------------------------------------------- */

static char frontend[64], backend[512];

static const char *node(const char *directory, const char *name)
{
    static char path[640];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void wait_for_backend(unsigned states)
{
    for (;;) {
        unsigned state = store_read_number(node(backend, "state"), XenbusStateUnknown);
        if (states >> state & 1)
            return;
        if (state == XenbusStateClosing && !(states >> XenbusStateClosed & 1))
            die("the backend refused to connect");
        store_wait();
    }
}

static domid_t connect(RING_IDX first)
{
    uint64_t pfn;

    store_read(node(frontend, "backend"), backend, sizeof backend);
    domid_t backend_id = store_read_number(node(frontend, "backend-id"), DOMID_INVALID);
    store_watch(node(backend, "state"), "backend");
    wait_for_backend(1 << XenbusStateInitWait);

    /* One window: the ring's page first, then the pool. */
    char *window = alloc_window(backend_id, 1 + SLOTS * MAX_SEGMENTS, &pfn);
    blkif_sring_t *shared = (blkif_sring_t *)window;
    pool = window + PAGE_SIZE;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned s = 0; s < MAX_SEGMENTS; s++)
            grefs[slot][s] = grant(backend_id, pfn + 1 + slot * MAX_SEGMENTS + s);
        free_slots[nr_free++] = SLOTS - 1 - slot;
        region_of[slot] = -2;
    }
    SHARED_RING_INIT(shared);
    shared->req_prod = shared->rsp_prod = first;
    shared->req_event = shared->rsp_event = first + 1;
    FRONT_RING_ATTACH(&ring, shared, first, PAGE_SIZE);
    channel = alloc_unbound(backend_id);

    grant_ref_t ring_ref = grant(backend_id, pfn);
    store_write(node(frontend, "ring-ref"), "%u", ring_ref);
    store_write(node(frontend, "event-channel"), "%u", channel.port);
    store_write(node(frontend, "protocol"), "x86_64-abi");
    store_write(node(frontend, "feature-persistent"), "1");
    store_write(node(frontend, "state"), "%d", XenbusStateInitialised);
    wait_for_backend(1 << XenbusStateConnected);
    store_write(node(frontend, "state"), "%d", XenbusStateConnected);
    return backend_id;
}

static void disconnect(void)
{
    store_write(node(frontend, "state"), "%d", XenbusStateClosing);
    wait_for_backend(1 << XenbusStateClosing | 1 << XenbusStateClosed);
    store_write(node(frontend, "state"), "%d", XenbusStateClosed);
    wait_for_backend(1 << XenbusStateClosed);
    /* A closed backend maps nothing any more: every grant can end. */
    for (unsigned slot = 0; slot < SLOTS; slot++)
        for (unsigned s = 0; s < MAX_SEGMENTS; s++)
            end_grant(grefs[slot][s]);
}

int main(int argc, char **argv)
{
    guest_init();
    if (argc != 4)
        die("usage: blkfront VDEV-NUMBER FIRST-INDEX REQUESTS");
    RING_IDX first = strtoul(argv[2], NULL, 0);
    int regions = atoi(argv[3]);
    snprintf(frontend, sizeof frontend, "device/vbd/%s", argv[1]);

    domid_t backend_id = connect(first);
    unsigned long long sectors = store_read_number(node(backend, "sectors"), 0);
    unsigned long long sector_size = store_read_number(node(backend, "sector-size"), 0);
    say("connected to d%u: %llu sectors of %llu bytes, indices from %u", backend_id, sectors, sector_size,
        first);
    if (sector_size != 512 || sectors < (unsigned long long)regions * STRIDE)
        die("the disk is too small");

    run(BLKIF_OP_READ, regions, 0);
    run(BLKIF_OP_WRITE, regions, 1);
    run(BLKIF_OP_READ, regions, 1);
    flush();
    unsigned long long moved = 0;
    for (int region = 0; region < regions; region++)
        moved += 3 * total_sectors(region);
    say("%d requests of each kind, %llu sectors, %lu notifications, %lu wraps", regions, moved,
        notifications, wraps);

    disconnect();
    shutdown_domain(SHUTDOWN_poweroff);
}
