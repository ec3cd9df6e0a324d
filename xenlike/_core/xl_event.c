// SPDX-License-Identifier: Apache-2.0
//
// Event channels. The carrier is a non-blocking pipe per direction: one byte or many mean "pending", an
// empty pipe means "clear", and end of file means that the peer has closed its end or died.

#include <unistd.h>

#include "xl_atomic.h"
#include "xl_api.h"

/* 1: pending now (also when it was before); 0: the peer is gone; -errno. SIGPIPE is ignored by Python. */
int xl_notify(int fd)
{
	static const char pending = 1;

	for (;;) {
		if (write(fd, &pending, 1) >= 0)
			return 1;
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 1; /* full: the peer has not looked since, so it will */
		return errno == EPIPE ? 0 : -errno;
	}
}

/* Clears the channel. Bit 0: something was pending; bit 1: hang-up; -errno. */
int xl_drain(int fd)
{
	char bytes[4096];
	int seen = 0;

	for (;;) {
		ssize_t got = read(fd, bytes, sizeof(bytes));

		if (got == (ssize_t)sizeof(bytes)) {
			seen |= 1;
			continue;
		}
		if (got > 0)
			return seen | 1; /* a short read emptied the pipe; a hang-up is still readable later */
		if (got == 0)
			return seen | 2;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN || errno == EWOULDBLOCK ? seen : -errno;
	}
}
