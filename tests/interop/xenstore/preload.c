/* What Xen's C xenstored asks of Xen, answered on a host without it; loaded with LD_PRELOAD.
 *
 * The world is a directory, XENLIKE_ORACLE: `domains` has one byte of state per domid (0 there is none,
 * 1 runs, 2 has shut down, 3 is dying), `page-N` is the store page of domain N, `port` what domain 0's
 * kernel would say its port is. Events are datagrams of four bytes on the socket XENLIKE_ORACLE_EVENTS.
 *
 * Time runs a thousand times as fast for the daemon, so that its limit on the rate of writes, which changes no answer,
 * does not make a test wait.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define PAGE 4096
#define VIRQ_PORT 1
#define DOMAINS 65536

static int answer; /* whose address stands for every handle */

static const char *world(void)
{
    const char *path = getenv("XENLIKE_ORACLE");
    if (!path)
        abort();
    return path;
}

static int events(void)
{
    return atoi(getenv("XENLIKE_ORACLE_EVENTS"));
}

static int open_in_world(const char *name, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", world(), name);
    return openat(AT_FDCWD, path, flags | O_CLOEXEC);
}

/* --- libxenctrl --- */

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger, unsigned flags)
{
    return (xc_interface *)&answer;
}

int xc_interface_close(xc_interface *xch)
{
    return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int most, xc_dominfo_t *info)
{
    static const unsigned char *states;

    if (!states) {
        int fd = open_in_world("domains", O_RDONLY);
        void *mapped = mmap(NULL, DOMAINS, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped == MAP_FAILED)
            abort();
        close(fd);
        states = mapped;
    }
    if (first >= DOMAINS || !most || !states[first]) {
        errno = ESRCH;
        return -1;
    }
    memset(info, 0, sizeof *info);
    info->domid = first;
    info->running = states[first] == 1;
    info->shutdown = states[first] == 2;
    info->dying = states[first] == 3;
    return 1;
}

/* --- libxenevtchn --- */

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned int flags)
{
    return (xenevtchn_handle *)&answer;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *logger, int fd, unsigned int flags)
{
    return (xenevtchn_handle *)&answer;
}

int xenevtchn_fd(xenevtchn_handle *handle)
{
    return events();
}

int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
    uint32_t datagram = port;
    /* A full socket means that the test has plenty to wake up for. */
    send(events(), &datagram, sizeof datagram, MSG_DONTWAIT | MSG_NOSIGNAL);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid, evtchn_port_t port)
{
    static evtchn_port_t next = VIRQ_PORT;
    return ++next;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *handle, unsigned int virq)
{
    return VIRQ_PORT;
}

int xenevtchn_unbind(xenevtchn_handle *handle, evtchn_port_t port)
{
    return 0;
}

/* Takes every event at once: what a domain's event means is found in its ring anyway. */
xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *handle)
{
    uint32_t datagram, port = 0;
    ssize_t size;

    while ((size = recv(events(), &datagram, sizeof datagram, MSG_DONTWAIT)) == sizeof datagram)
        port = port == VIRQ_PORT ? port : datagram;
    if (size == 0)
        _exit(0); /* the test has ended */
    return port ? (int)port : VIRQ_PORT + 1;
}

int xenevtchn_unmask(xenevtchn_handle *handle, evtchn_port_t port)
{
    return 0;
}

/* --- libxengnttab --- */

xengnttab_handle *xengnttab_open(xentoollog_logger *logger, unsigned flags)
{
    return (xengnttab_handle *)&answer;
}

int xengnttab_close(xengnttab_handle *handle)
{
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *handle, uint32_t count)
{
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int prot)
{
    char name[32];
    void *page;
    int fd;

    snprintf(name, sizeof name, "page-%u", domid);
    fd = open_in_world(name, O_RDWR);
    if (fd < 0) {
        errno = EINVAL; /* as the kernel says of a grant that the hypervisor refuses */
        return NULL;
    }
    page = mmap(NULL, PAGE, prot, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle *handle, void *page, uint32_t count)
{
    return munmap(page, (size_t)count * PAGE);
}

/* --- libc --- */

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if (!strcmp(path, "/proc/xen/xsd_port") || !strcmp(path, "/dev/xen/xsd_port"))
        return open_in_world("port", flags);
    if (!strcmp(path, "/proc/xen/xsd_kva") || !strcmp(path, "/dev/xen/xsd_kva"))
        return open_in_world("page-0", flags);
    return openat(AT_FDCWD, path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*genuine)(clockid_t, struct timespec *);

    if (!genuine) /* the C library's, which needs no system call: the daemon is also measured */
        genuine = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = genuine(clock, now);

    if (!result && clock == CLOCK_MONOTONIC) {
        now->tv_sec = now->tv_sec * 1000 + now->tv_nsec / 1000000;
        now->tv_nsec = now->tv_nsec % 1000000 * 1000;
    }
    return result;
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec timeout = {0, timeout_ms > 0 ? 1000 : 0};

    return syscall(SYS_ppoll, fds, count, timeout_ms < 0 ? NULL : &timeout, NULL, 0);
}
