"""The C core behind one typed façade: memory windows, event channels, grant entries, rings, spinning.

This package is the only one that sees the compiled module; everybody else gets functions and classes with
plain Python types. Nothing in Python ever loads or stores a word that another domain shares: that needs
atomics and fences, and they are in the C files beside this one.

Failing system calls raise `OSError` with the errno.
"""

try:
    from xenlike._core._xl import ffi, lib
except ImportError as error:
    raise ImportError("the compiled core of xenlike is missing; in a source tree `make build` makes it") from error

from xenlike._core.events import drain, notify
from xenlike._core.grants import (
    GTF_PERMIT_ACCESS,
    GTF_READING,
    GTF_READONLY,
    GTF_WRITING,
    GrantEntry,
    gnttab_end,
    gnttab_get,
    gnttab_pin,
    gnttab_set,
    gnttab_unpin,
)
from xenlike._core.memory import (
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    MFD_NOEXEC_SEAL,
    Mapping,
    Reservation,
    get_seals,
    map_shared,
    memfd_create,
    reserve,
    seal,
)
from xenlike._core.process import (
    fork_orphan,
    get_dumpable,
    membarrier,
    membarrier_register,
    no_new_privs,
    set_child_subreaper,
    set_dumpable,
    set_pdeathsig,
)
from xenlike._core.recorder import (
    FULL,
    SLEEPS,
    SPINS_HIT,
    SPINS_MISSED,
    SPURIOUS,
    STARVED,
    Recorder,
    RecorderPlace,
    ask_trace,
    map_recorder,
    read_trace,
    trace_clock,
)
from xenlike._core.rings import (
    SIDE_BACK,
    SIDE_CONSUMER,
    SIDE_FRONT,
    SIDE_PRODUCER,
    Incoming,
    Outgoing,
    RingEnd,
    RingStatistics,
    SpinnerCore,
    SpinnerStatistics,
    ring_slots,
    ring_stride,
)
from xenlike._core.streams import SharedWord, StreamEnd, StreamStatistics

__all__ = [
    "FULL",
    "STARVED",
    "F_SEAL_FUTURE_WRITE",
    "F_SEAL_GROW",
    "F_SEAL_SEAL",
    "F_SEAL_SHRINK",
    "F_SEAL_WRITE",
    "GTF_PERMIT_ACCESS",
    "GTF_READING",
    "GTF_READONLY",
    "GTF_WRITING",
    "MFD_NOEXEC_SEAL",
    "SIDE_BACK",
    "SIDE_CONSUMER",
    "SIDE_FRONT",
    "SIDE_PRODUCER",
    "SLEEPS",
    "SPINS_HIT",
    "SPINS_MISSED",
    "SPURIOUS",
    "GrantEntry",
    "Incoming",
    "Mapping",
    "Outgoing",
    "Recorder",
    "RecorderPlace",
    "Reservation",
    "RingEnd",
    "RingStatistics",
    "SharedWord",
    "SpinnerCore",
    "SpinnerStatistics",
    "StreamEnd",
    "StreamStatistics",
    "ask_trace",
    "drain",
    "ffi",
    "fork_orphan",
    "get_dumpable",
    "get_seals",
    "gnttab_end",
    "gnttab_get",
    "gnttab_pin",
    "gnttab_set",
    "gnttab_unpin",
    "lib",
    "map_recorder",
    "map_shared",
    "membarrier",
    "membarrier_register",
    "memfd_create",
    "no_new_privs",
    "notify",
    "read_trace",
    "reserve",
    "ring_slots",
    "ring_stride",
    "seal",
    "set_child_subreaper",
    "set_dumpable",
    "set_pdeathsig",
    "trace_clock",
]
