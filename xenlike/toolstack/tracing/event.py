"""One event of a trace, as whoever reads it gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from xenlike.abi import recorder as abi

CLASSES: Final = {
    "ring": abi.XENLIKE_TRACE_RING,
    "entry": abi.XENLIKE_TRACE_ENTRY,
    "event": abi.XENLIKE_TRACE_EVENT,
    "grant": abi.XENLIKE_TRACE_GRANT,
    "store": abi.XENLIKE_TRACE_STORE,
    "xenbus": abi.XENLIKE_TRACE_XENBUS,
    "user": abi.XENLIKE_TRACE_USER,
}
"""The classes by the names that people use, and their bits in a recorder's mask."""

NAMES: Final[dict[int, dict[int, str]]] = {
    abi.XENLIKE_TRACE_RING: {
        abi.XENLIKE_TRACE_PUSH: "push",
        abi.XENLIKE_TRACE_POP: "pop",
        abi.XENLIKE_TRACE_KICK: "kick",
        abi.XENLIKE_TRACE_ARM: "arm",
        abi.XENLIKE_TRACE_BREAK: "break",
        abi.XENLIKE_TRACE_WAKE: "wake",
    },
    abi.XENLIKE_TRACE_ENTRY: {abi.XENLIKE_TRACE_PUSHED: "pushed", abi.XENLIKE_TRACE_POPPED: "popped"},
    abi.XENLIKE_TRACE_EVENT: {
        abi.XENLIKE_TRACE_ALLOC: "alloc",
        abi.XENLIKE_TRACE_BIND: "bind",
        abi.XENLIKE_TRACE_CLOSE: "close",
        abi.XENLIKE_TRACE_NOTIFY: "notify",
    },
    abi.XENLIKE_TRACE_GRANT: {
        abi.XENLIKE_TRACE_GRANTED: "granted",
        abi.XENLIKE_TRACE_REVOKED: "revoked",
        abi.XENLIKE_TRACE_MAPPED: "mapped",
        abi.XENLIKE_TRACE_UNMAPPED: "unmapped",
    },
    abi.XENLIKE_TRACE_STORE: {
        abi.XENLIKE_TRACE_READ: "read",
        abi.XENLIKE_TRACE_WRITE: "write",
        abi.XENLIKE_TRACE_WATCH: "watch",
        abi.XENLIKE_TRACE_CONFLICT: "conflict",
    },
    abi.XENLIKE_TRACE_XENBUS: {
        abi.XENLIKE_TRACE_STATE: "state",
        abi.XENLIKE_TRACE_OTHEREND: "otherend",
        abi.XENLIKE_TRACE_FATAL: "fatal",
        abi.XENLIKE_TRACE_LOST: "lost",
    },
    abi.XENLIKE_TRACE_USER: {abi.XENLIKE_TRACE_TEXT: "text"},
}

_CLASS_NAMES: Final = {bit: name for name, bit in CLASSES.items()}
_DIRECTORIES = ("device/", "backend/")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One event. What `a` to `d` mean is said beside the numbers of the events, in `xenlike.abi.recorder`.

    Attributes:
        time_ns: by CLOCK_MONOTONIC.
        domid: who recorded it.
        kind: its class, `XENLIKE_TRACE_RING` and so on.
        event: which of the class.
        device: nodename of the device, such as `device/vbd/51712`, that the ring or the text is of; empty for none.
        side: of the ring, as `RecorderQueue.side`; None when the event is of no ring that is known.
        queue: number of the ring in its domain's recorder; 0 for none.
        payload: the entry's bytes, or the text.
        is_whole: False where a part of the payload was overwritten, or left out because it was too long.
    """

    time_ns: int
    domid: int
    kind: int
    event: int
    device: str = ""
    side: int | None = None
    queue: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    payload: bytes = b""
    is_whole: bool = True

    @property
    def class_name(self) -> str:
        """`ring`, `entry` and so on."""
        return _CLASS_NAMES.get(self.kind, f"class {self.kind}")

    @property
    def name(self) -> str:
        """`push`, `state` and so on."""
        return NAMES.get(self.kind, {}).get(self.event, f"event {self.event}")

    @property
    def text(self) -> str:
        """The payload as a text, fit for a terminal; empty for an entry."""
        return "" if self.kind == abi.XENLIKE_TRACE_ENTRY else printable(self.payload)

    def about(self) -> str:
        """The text without the device in front of it."""
        text = self.text
        if self.device and text.startswith(self.device):
            return text[len(self.device) :].removeprefix(":").lstrip()
        return text


def printable(data: bytes) -> str:
    """Returns bytes as a text that does nothing to a terminal: a domain's words come from nobody knows where."""
    text = data.decode(errors="replace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def device_in(text: str) -> str:
    """Returns the nodename that a text begins with, as drivers and devices write them; empty for none."""
    name = text.partition(": ")[0]
    return name if name.startswith(_DIRECTORIES) and " " not in name else ""
