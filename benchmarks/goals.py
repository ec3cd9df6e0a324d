"""What the figures of each subject should be, on two CPUs of a present-day server."""

from __future__ import annotations

from xenlike.benchmarks.figures import Goal

FORK = "zygote fork to first hypercall"
FIRST_READ = "spawn to first block read answered"
BATCH_PATH = "Python batch path, one way, polled"
STORE_READS_1 = "reads, 1 client with 16 in flight, by Xen's"
STORE_READS_4 = "reads, 4 clients with 16 each, by Xen's"
STORE_LATENCY = "a read, 1 client with 1 in flight, by Xen's"
STORE_EMPTY = "empty transactions, by Xen's"
STORE_RMW = "read-modify-write transactions, by Xen's"
STORE_WATCHES = "the last of 10,000 watches, by the first"
STORE_WATCHED_WRITES = "a write with 10,000 watches elsewhere, by one without"
STORE_NODES = "the last of 100,000 nodes, by the first"
STORE_HANDSHAKE = "a handshake with 1,000 domains, by one in an empty store"
MOST_RETRIES = "retries of the unluckiest transaction"
BESIDE_XENS = (STORE_READS_1, STORE_READS_4, STORE_LATENCY, STORE_EMPTY, STORE_RMW)


def many_guests(count: int) -> str:
    """Names the figure of starting so many guests."""
    return f"{count} guests with a disk each"


def idle_guests(count: int) -> str:
    """Names the figure of so many guests that do nothing."""
    return f"CPU of {count} idle guests and their machine in 10 s"


# Rings from C to C; each is our fastest layout against the fastest of the others, in the same run.
TRIP_TO_LINE = "round trip, polled, as a multiple of the bare cache line's"
TRIP_TO_RING_H = "round trip, polled, times as fast as ring.h"
TO_BARE_RING_H = "events, 8 at a time, times as fast as ring.h with a bare eventfd"
ONE_WAY_TO_PEERS = "one way, 64 B, 32 at a time, times as fast as the best of boost and DPDK"

NEVER_SLOWER = "the layout chosen for a size, at the size where it is slowest, times as fast as ring.h"


def events_to_ring_h(batch: int) -> str:
    """Names the ratio with events on and both ends awake."""
    return f"events, {batch} at a time, times as fast as ring.h with its fence and check"


def polled_to_ring_h(batch: int) -> str:
    """Names the ratio of ends that poll."""
    return f"polled, {batch} at a time, times as fast as ring.h"


# Rings from Python to Python, and what else there is for it.
SINGLE_TO_PEER = "single put and get, times as fast as subetha-ipc's push and pop"
BATCH_TO_PIPE = "batches of 32, times as fast as a Pipe sending 32 at a time"
TRIO_RUNNING = "trio to trio, both running, as a part of eventfd and wait_readable"
TRIO_SLEEPING = "trio to trio, both asleep, as a part of eventfd and wait_readable"
PAYLOAD_TO_PEER = "payload of 1 MiB, times as fast as the best of the others"

# What recording costs the ring benchmark's courses from C to C, all together.
TRACE_OFF = "trace off, costs"
TRACE_ON = "trace on, costs"
TRACE_EVENT = "an event that is recorded"


def batch_to_peer(batch: int) -> str:
    """Names the ratio of batches."""
    return f"batches of {batch}, times as fast as subetha-ipc's buffer calls"


GOALS: dict[str, dict[str, Goal]] = {
    "domains": {
        FORK: Goal(5.0),
        FIRST_READ: Goal(25.0),
        many_guests(100): Goal(5.0),
    },
    "block": {BATCH_PATH: Goal(25.0, "at least")},
    "ring": {
        BATCH_PATH: Goal(25.0, "at least"),
        TRIP_TO_LINE: Goal(1.6),
        TRIP_TO_RING_H: Goal(1.3, "at least"),
        events_to_ring_h(1): Goal(2.0, "at least"),
        events_to_ring_h(8): Goal(1.3, "at least"),
        polled_to_ring_h(1): Goal(1.0, "at least"),
        polled_to_ring_h(8): Goal(1.0, "at least"),
        TO_BARE_RING_H: Goal(10.0, "at least"),
        ONE_WAY_TO_PEERS: Goal(1.5, "at least"),
        NEVER_SLOWER: Goal(0.97, "at least"),
        batch_to_peer(32): Goal(1.3, "at least"),
        batch_to_peer(256): Goal(2.0, "at least"),
        BATCH_TO_PIPE: Goal(20.0, "at least"),
        SINGLE_TO_PEER: Goal(1.2, "at least"),
        TRIO_RUNNING: Goal(0.1),
        TRIO_SLEEPING: Goal(1.3),
        PAYLOAD_TO_PEER: Goal(2.0, "at least"),
    },
    "idle": {idle_guests(10): Goal(20.0)},
    "trace": {TRACE_OFF: Goal(1.0), TRACE_ON: Goal(10.0), TRACE_EVENT: Goal(50.0)},
    "xenstore": {
        STORE_LATENCY: Goal(1.3),
        STORE_READS_1: Goal(1.0, "at least"),
        STORE_READS_4: Goal(1.0, "at least"),
        STORE_EMPTY: Goal(1.0, "at least"),
        STORE_RMW: Goal(1.0, "at least"),
        STORE_WATCHES: Goal(1.5),
        STORE_WATCHED_WRITES: Goal(1.2),
        STORE_NODES: Goal(1.5),
        STORE_HANDSHAKE: Goal(1.2),
        MOST_RETRIES: Goal(20.0),
    },
}
"""By subject and figure; in the unit of the figure."""
