/* See guest.h. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FDS 16

struct xenlike_start_info start;
static int hypercall_fd = -1;
static grant_entry_v1_t *grant_table;
static struct xenstore_domain_interface *store_ring;
static struct channel store_channel;
static struct xencons_interface *console_ring;
static struct channel console_channel;

/* ---- hypercalls --------------------------------------------------------------------------------- */

/*
 * One message each way: a header, then `count` argument structures, which come back updated.
 * Returns the hypercall's result; descriptors that came along go to fds[0 .. max_fds).
 */
static int hypercall(uint16_t op, uint16_t cmd, void *arg, size_t size, int *fds, unsigned max_fds)
{
    static uint32_t tag;
    struct xenlike_hypercall call = { .tag = ++tag, .op = op, .cmd = cmd, .count = arg ? 1 : 0 };
    struct xenlike_hypercall_reply reply;
    char payload[4096], control[CMSG_SPACE(MAX_FDS * sizeof(int))];
    struct iovec out[2] = { { &call, sizeof call }, { arg, size } };
    struct iovec in[2] = { { &reply, sizeof reply }, { payload, sizeof payload } };
    struct msghdr message = { .msg_iov = out, .msg_iovlen = arg ? 2 : 1 };
    ssize_t length;

    if (sendmsg(hypercall_fd, &message, MSG_NOSIGNAL) < 0)
        _exit(111); /* the hypervisor is gone, and so is every way to say so */
    message = (struct msghdr){ .msg_iov = in, .msg_iovlen = 2,
                               .msg_control = control, .msg_controllen = sizeof control };
    do
        length = recvmsg(hypercall_fd, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < (ssize_t)sizeof reply || reply.tag != tag)
        _exit(112);

    unsigned received = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (unsigned i = 0; i < count; i++, received++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (received < max_fds)
                fds[received] = fd;
            else
                close(fd);
        }
    }
    if (received != reply.nr_fds)
        die("op %u/%u: %u descriptors came, %u were announced", op, cmd, received, reply.nr_fds);
    if (arg && reply.ret >= 0 && length >= (ssize_t)(sizeof reply + size))
        memcpy(arg, payload, size);
    return reply.ret;
}

static int xenlike_op(uint16_t cmd, void *arg, size_t size, int *fds, unsigned max_fds)
{
    return hypercall(XENLIKE_HYPERVISOR_xenlike_op, cmd, arg, size, fds, max_fds);
}

static int event_channel_op(uint16_t cmd, void *arg, size_t size, int *fds, unsigned max_fds)
{
    return hypercall(XENLIKE_HYPERVISOR_event_channel_op, cmd, arg, size, fds, max_fds);
}

static void must(int result, const char *what)
{
    if (result < 0)
        die("%s: %s", what, strerror(-result));
}

static void *map_fd(int fd, size_t *length)
{
    struct stat info;
    if (fstat(fd, &info))
        die("fstat: %s", strerror(errno));
    void *address = mmap(NULL, info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
        die("mmap of %lld bytes: %s", (long long)info.st_size, strerror(errno));
    close(fd);
    if (length)
        *length = info.st_size;
    return address;
}

void guest_init(void)
{
    const char *number = getenv("XENLIKE_HYPERCALL_FD");
    int fds[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };

    if (!number) {
        fputs("XENLIKE_HYPERCALL_FD is not set: this program is a guest\n", stderr);
        exit(2);
    }
    hypercall_fd = atoi(number);
    /* ram, grant table, store window, console window, store rx and tx, console rx and tx */
    must(xenlike_op(XENLIKE_BOOTSTRAP, &start, sizeof start, fds, 8), "bootstrap");
    if (start.magic != XENLIKE_START_MAGIC || start.version != XENLIKE_START_VERSION)
        die("this is no start info: magic %#llx", (unsigned long long)start.magic);
    if (!(start.flags & XENLIKE_START_STORE) || !(start.flags & XENLIKE_START_CONSOLE))
        die("this guest needs a store and a console");
    close(fds[0]); /* private memory: malloc will do */
    grant_table = map_fd(fds[1], NULL);
    store_ring = map_fd(fds[2], NULL);
    console_ring = map_fd(fds[3], NULL);
    store_channel = (struct channel){ start.store_port, fds[4], fds[5] };
    console_channel = (struct channel){ start.console_port, fds[6], fds[7] };
}

void shutdown_domain(uint32_t reason)
{
    struct sched_shutdown arg = { .reason = reason };
    hypercall(XENLIKE_HYPERVISOR_sched_op, SCHEDOP_shutdown, &arg, sizeof arg, NULL, 0);
    _exit(reason == SHUTDOWN_crash);
}

/* ---- memory, grants, events --------------------------------------------------------------------- */

void *alloc_window(domid_t peer, uint32_t nr_pages, uint64_t *pfn)
{
    struct xenlike_alloc_window arg = { .peer = peer, .nr_pages = nr_pages };
    size_t length;
    int fd = -1;
    must(xenlike_op(XENLIKE_ALLOC_WINDOW, &arg, sizeof arg, &fd, 1), "alloc_window");
    void *address = map_fd(fd, &length);
    if (length != (size_t)nr_pages * PAGE_SIZE)
        die("a window of %u pages has %zu bytes", nr_pages, length);
    *pfn = arg.pfn;
    return address;
}

void free_window(uint64_t pfn)
{
    struct xenlike_free_window arg = { .pfn = pfn };
    must(xenlike_op(XENLIKE_FREE_WINDOW, &arg, sizeof arg, NULL, 0), "free_window");
}

grant_ref_t grant(domid_t peer, uint64_t pfn)
{
    static grant_ref_t next = FIRST_FREE_GREF;
    if (next >= start.nr_grant_frames * PAGE_SIZE / sizeof *grant_table)
        die("the grant table is full");
    grant_entry_v1_t *entry = &grant_table[next];
    entry->domid = peer;
    entry->frame = pfn;
    wmb(); /* domain and frame are there /before/ the flags make the entry valid */
    __atomic_store_n(&entry->flags, GTF_permit_access, __ATOMIC_RELAXED);
    return next++;
}

void end_grant(grant_ref_t ref)
{
    const uint16_t idle = GTF_permit_access;
    /* The flags change only if nobody maps the page: mapping sets GTF_reading or GTF_writing. */
    if (!__sync_bool_compare_and_swap(&grant_table[ref].flags, idle, 0))
        die("grant %u is still in use: flags %#x", ref, grant_table[ref].flags);
}

struct channel alloc_unbound(domid_t remote)
{
    struct evtchn_alloc_unbound arg = { .dom = DOMID_SELF, .remote_dom = remote };
    int fds[2] = { -1, -1 };
    must(event_channel_op(EVTCHNOP_alloc_unbound, &arg, sizeof arg, fds, 2), "alloc_unbound");
    return (struct channel){ arg.port, fds[0], fds[1] };
}

void notify(const struct channel *channel)
{
    /* A full pipe means that an event is pending already. */
    if (write(channel->tx, "", 1) < 0 && errno != EAGAIN)
        die("notify port %u: %s", channel->port, strerror(errno));
}

void wait_event(const struct channel *channel)
{
    struct pollfd rx = { .fd = channel->rx, .events = POLLIN };
    char sink[64];
    ssize_t length;
    while (poll(&rx, 1, -1) < 0 && errno == EINTR)
        ;
    while ((length = read(channel->rx, sink, sizeof sink)) > 0)
        ;
    if (length == 0)
        die("port %u: the other end is gone", channel->port);
}

/* ---- console ------------------------------------------------------------------------------------ */

static void console_write(const char *text, size_t length)
{
    if (!console_ring) {
        if (write(2, text, length) < 0)
            _exit(113);
        return;
    }
    while (length) {
        XENCONS_RING_IDX cons = __atomic_load_n(&console_ring->out_cons, __ATOMIC_ACQUIRE);
        XENCONS_RING_IDX prod = console_ring->out_prod;
        size_t room = sizeof console_ring->out - (prod - cons);
        if (!room) {
            wait_event(&console_channel);
            continue;
        }
        for (; room && length; room--, length--)
            console_ring->out[MASK_XENCONS_IDX(prod++, console_ring->out)] = *text++;
        __atomic_store_n(&console_ring->out_prod, prod, __ATOMIC_RELEASE);
        notify(&console_channel);
    }
}

static void vsay(const char *format, va_list arguments)
{
    char line[512];
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    console_write(line, length);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsay(format, arguments);
    va_end(arguments);
}

void die(const char *format, ...)
{
    static int dying;
    va_list arguments;
    va_start(arguments, format);
    if (!dying++)
        vsay(format, arguments);
    va_end(arguments);
    shutdown_domain(SHUTDOWN_crash);
}

/* ---- store -------------------------------------------------------------------------------------- */

static void store_send(const void *data, size_t length)
{
    const char *from = data;
    while (length) {
        XENSTORE_RING_IDX cons = __atomic_load_n(&store_ring->req_cons, __ATOMIC_ACQUIRE);
        XENSTORE_RING_IDX prod = store_ring->req_prod;
        size_t room = XENSTORE_RING_SIZE - (prod - cons);
        if (!room) {
            wait_event(&store_channel);
            continue;
        }
        for (; room && length; room--, length--)
            store_ring->req[MASK_XENSTORE_IDX(prod++)] = *from++;
        __atomic_store_n(&store_ring->req_prod, prod, __ATOMIC_RELEASE);
        notify(&store_channel);
    }
}

static void store_receive(void *data, size_t length)
{
    char *to = data;
    while (length) {
        XENSTORE_RING_IDX prod = __atomic_load_n(&store_ring->rsp_prod, __ATOMIC_ACQUIRE);
        XENSTORE_RING_IDX cons = store_ring->rsp_cons;
        size_t available = prod - cons;
        if (!available) {
            wait_event(&store_channel);
            continue;
        }
        for (; available && length; available--, length--)
            *to++ = store_ring->rsp[MASK_XENSTORE_IDX(cons++)];
        __atomic_store_n(&store_ring->rsp_cons, cons, __ATOMIC_RELEASE);
        notify(&store_channel);
    }
}

static unsigned watch_events;

/* Takes one message off the ring; watch events are counted, a reply is returned with its payload. */
static struct xsd_sockmsg store_message(char *payload)
{
    struct xsd_sockmsg header;
    store_receive(&header, sizeof header);
    if (header.len > XENSTORE_PAYLOAD_MAX)
        die("the store sent %u bytes", header.len);
    store_receive(payload, header.len);
    payload[header.len] = '\0';
    if (header.type == XS_WATCH_EVENT)
        watch_events++;
    return header;
}

/* Sends one request and waits for its reply; false for XS_ERROR, whose name is then in `reply`. */
static int store_talk(uint32_t type, const void *payload, size_t length, char *reply)
{
    static uint32_t req_id;
    struct xsd_sockmsg header = { .type = type, .req_id = ++req_id, .len = length };
    store_send(&header, sizeof header);
    store_send(payload, length);
    do
        header = store_message(reply);
    while (header.type == XS_WATCH_EVENT);
    if (header.req_id != req_id)
        die("the store answered request %u, not %u", header.req_id, req_id);
    return header.type != XS_ERROR;
}

void store_read(const char *path, char *value, size_t size)
{
    char reply[XENSTORE_PAYLOAD_MAX + 1];
    if (!store_talk(XS_READ, path, strlen(path) + 1, reply))
        die("read %s: %s", path, reply);
    snprintf(value, size, "%s", reply);
}

unsigned long long store_read_number(const char *path, unsigned long long otherwise)
{
    char reply[XENSTORE_PAYLOAD_MAX + 1];
    return store_talk(XS_READ, path, strlen(path) + 1, reply) ? strtoull(reply, NULL, 10) : otherwise;
}

void store_write(const char *path, const char *format, ...)
{
    char payload[1024], reply[XENSTORE_PAYLOAD_MAX + 1];
    size_t length = strlen(path) + 1;
    va_list arguments;
    memcpy(payload, path, length);
    va_start(arguments, format);
    length += vsnprintf(payload + length, sizeof payload - length, format, arguments);
    va_end(arguments);
    if (!store_talk(XS_WRITE, payload, length, reply))
        die("write %s: %s", path, reply);
}

void store_watch(const char *path, const char *token)
{
    char payload[1024], reply[XENSTORE_PAYLOAD_MAX + 1];
    size_t length = snprintf(payload, sizeof payload, "%s", path) + 1;
    length += snprintf(payload + length, sizeof payload - length, "%s", token) + 1;
    if (!store_talk(XS_WATCH, payload, length, reply))
        die("watch %s: %s", path, reply);
}

void store_wait(void)
{
    char payload[XENSTORE_PAYLOAD_MAX + 1];
    while (!watch_events)
        store_message(payload);
    watch_events = 0;
}
