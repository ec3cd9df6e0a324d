"""A domain's recorder: a segment in which it counts and traces, and which tools read while it runs.

    offset              size
    0                   4096         RecorderHead
    4096                128 x 512    RecorderQueue, one for each ring in use: its end's private state, as it is
    69632               8192 x 32    TraceRecord, the newest of them; record `i` lies at place `i mod 8192`

A domain gets its own by `XENLIKE_RECORDER`, domain 0 everybody's. Peers get none, so a domain that writes
nonsense deceives nobody but tools, which believe nothing: strings may be unterminated, numbers anything.

A record is complete when its `seq` is the low half of its index plus one. An event with a payload (a path, an
entry) has it in the `more` records that follow, 28 bytes in each behind their `seq`.
"""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Bytes, char64, u8, u32, u64

XENLIKE_RECORDER_MAGIC: Final = int.from_bytes(b"XLRC", "little")
XENLIKE_RECORDER_VERSION: Final = 1
XENLIKE_RECORDER_QUEUES: Final = 128
XENLIKE_RECORDER_RECORDS: Final = 8192
XENLIKE_RECORDER_QUEUES_AT: Final = 4096
XENLIKE_RECORDER_RECORDS_AT: Final = 69632
XENLIKE_RECORDER_BYTES: Final = 331776

XENLIKE_TRACE_RING: Final = 1
"""What a ring's end does; of every batch, so it is off until somebody looks."""
XENLIKE_TRACE_ENTRY: Final = 2
"""Requests and responses themselves; likewise."""
XENLIKE_TRACE_EVENT: Final = 4
XENLIKE_TRACE_GRANT: Final = 8
XENLIKE_TRACE_STORE: Final = 16
XENLIKE_TRACE_XENBUS: Final = 32
XENLIKE_TRACE_USER: Final = 64
"""What a driver or a guest's program writes itself; the payload is a text."""
XENLIKE_TRACE_USUAL: Final = 124
"""All but those of the hot paths: always on, since they are few."""

XENLIKE_TRACE_PUSH: Final = 1
"""RING: `a` entries were published, the index is `b` now."""
XENLIKE_TRACE_POP: Final = 2
"""RING: `a` entries were taken, the index is `b` now."""
XENLIKE_TRACE_KICK: Final = 3
"""RING: entries `c` to `d` were announced; the peer's event was `b`, so it was to be notified (`a` = 1) or not."""
XENLIKE_TRACE_ARM: Final = 4
"""RING: asked to be notified at `b`; `a` = 1: something was there already, no sleep."""
XENLIKE_TRACE_BREAK: Final = 5
"""RING: the peer's index `b` is impossible (`a`: 1 ran ahead, 2 went back); the ring is broken."""
XENLIKE_TRACE_PUSHED: Final = 6
"""ENTRY: entry `a` of `b` bytes was published; the payload begins it."""
XENLIKE_TRACE_POPPED: Final = 7
"""ENTRY: entry `a` of `b` bytes was taken."""

XENLIKE_TRACE_WAKE: Final = 8
"""RING: who slept on the ring's event channel was woken; `a` = 1: because the peer hung up."""

XENLIKE_TRACE_ALLOC: Final = 1
"""EVENT: port `a` was made, for domain `b` to bind to."""
XENLIKE_TRACE_BIND: Final = 2
"""EVENT: port `a` is bound to port `c` of domain `b`."""
XENLIKE_TRACE_CLOSE: Final = 3
"""EVENT: port `a` was closed."""
XENLIKE_TRACE_NOTIFY: Final = 4
"""EVENT: port `a` was notified other than by a ring's kick."""
XENLIKE_TRACE_GRANTED: Final = 1
"""GRANT: reference `a` lets domain `b` map frame `c`; `d` = 1: for reading."""
XENLIKE_TRACE_REVOKED: Final = 2
"""GRANT: reference `a` ended; `b` = 1: it was still mapped, so it did not."""
XENLIKE_TRACE_MAPPED: Final = 3
"""GRANT: reference `a` of domain `b` was to be mapped, with `c` others after it; `d`: GNTST_*, 0 for done."""
XENLIKE_TRACE_UNMAPPED: Final = 4
"""GRANT: handle `a` was unmapped, with `b` others after it."""

XENLIKE_TRACE_READ: Final = 1
"""STORE: the payload was asked for."""
XENLIKE_TRACE_WRITE: Final = 2
"""STORE: the payload, `path = value`, is to be written; `a`: in which transaction, 0 for none."""
XENLIKE_TRACE_WATCH: Final = 3
"""STORE: a watch told of a change at the payload."""
XENLIKE_TRACE_CONFLICT: Final = 4
"""STORE: a transaction came to nothing, because something else changed what it saw."""

XENLIKE_TRACE_STATE: Final = 1
"""XENBUS: the device, the payload, went from state `a` to `b`."""
XENLIKE_TRACE_OTHEREND: Final = 2
"""XENBUS: a device saw its other end in state `a`; the payload names both."""
XENLIKE_TRACE_FATAL: Final = 3
"""XENBUS: the device gave its connection up; the payload says which and why."""
XENLIKE_TRACE_LOST: Final = 4
"""XENBUS: the device's other end died; the payload says which and how that was seen."""

XENLIKE_TRACE_TEXT: Final = 1
"""USER: the payload."""


class RecorderHead(Struct, c="xenlike_recorder"):
    """The recorder's beginning."""

    magic: u32 = field('"XLRC" in memory order, written last; 0 in a recorder that its domain does not use')
    version: u32 = field("XENLIKE_RECORDER_VERSION")
    nr_queues: u32 = field("XENLIKE_RECORDER_QUEUES")
    nr_records: u32 = field("XENLIKE_RECORDER_RECORDS")
    clock: u32 = field("what records' time counts: 0 ns of CLOCK_MONOTONIC, 1 the CPU's ticks")
    pad: u32 = field()
    ticks: u64 = field("one moment by `clock`")
    ns: u64 = field("the same by CLOCK_MONOTONIC", unit="ns")
    reserved: Annotated[bytes, Bytes(88)] = field("so that what follows has a line of its own")
    mask: u32 = field("classes that are recorded; domain 0 may write it")
    reserved2: Annotated[bytes, Bytes(124)] = field("likewise")
    prod: u64 = field("records so far")


class RecorderQueue(Struct, c="xenlike_recorder_queue"):
    """One end of a ring. `prod` and `cons` are its private indices."""

    name: char64 = field("the device's nodename, such as device/vbd/51712")
    in_use: u32 = field("0 when the ring was closed: what follows is how it ended")
    pad: u32 = field()
    spins_hit: u64 = field("spins that brought work")
    spins_missed: u64 = field("spins that brought none")
    sleeps: u64 = field("times it slept on its event channel")
    spurious: u64 = field("wakes that brought nothing")
    full: u64 = field("times somebody had to wait for room")
    starved: u64 = field("who wait for a page of the device's pool, now")
    reserved: u64 = field()
    nr_slots: u32 = field("slots of the ring; 0 before it is made")
    stride: u32 = field("between two slots", unit="B")
    out_size: u32 = field("of an entry it writes", unit="B")
    in_size: u32 = field("of an entry it reads", unit="B")
    prod: u32 = field("what it has published: req_prod of a front, rsp_prod of a back")
    kicked: u32 = field("prod at its last kick: what is after that has not been announced")
    cons: u32 = field("what it has taken: rsp_cons of a front, req_cons of a back")
    seen: u32 = field("the peer's index when it last looked")
    first: u32 = field("where the indices began")
    tagged: u32 = field("1 in tag form")
    lapped: u32 = field("of tag form")
    side: u32 = field("0 front, 1 back, 2 producer, 3 consumer")
    asymmetric: u32 = field("1 with the asymmetric fence")
    broken: u32 = field("0 fine, 1 peer ran ahead, 2 peer went back, 3 closed, 4 bad tag")
    bad_index: u32 = field("the index that broke it")
    armed: u32 = field("the index at which it asked to be notified last")
    pushed: u64 = field("entries")
    popped: u64 = field("entries")
    kicks: u64 = field("kicks with something new")
    notifications: u64 = field("those that had to notify")
    arms: u64 = field("times it asked to be notified")
    late: u64 = field("those that found work")
    queue: u32 = field("its number, from 1 on")
    pad2: u32 = field()
    addresses: Annotated[bytes, Bytes(264)] = field("which mean nothing outside of the domain")


class TraceRecord(Struct, c="xenlike_trace_record"):
    """One event."""

    seq: u32 = field("low half of its index plus one, when it is complete")
    kind: u8 = field("XENLIKE_TRACE_RING and so on")
    event: u8 = field("which of the class")
    queue: u8 = field("number of the ring that it is about, or 0")
    more: u8 = field("records with its payload that follow")
    time: u64 = field("by the recorder's clock")
    a: u32 = field()
    b: u32 = field()
    c: u32 = field()
    d: u32 = field()
