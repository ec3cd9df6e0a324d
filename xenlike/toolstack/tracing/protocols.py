"""Which protocol a device speaks, and what its entries say."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from xenlike.abi import recorder as abi
from xenlike.domain.reference import resolve
from xenlike.toolstack.tracing.event import printable
from xenlike.xenbus.registry import load_driver, load_frontend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xenlike.abi.layout import FieldLayout
    from xenlike.abi.protocol import Protocol
    from xenlike.abi.struct import Struct
    from xenlike.toolstack.tracing.event import TraceEvent

_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]+")
_FAMILY = re.compile(r"([A-Z][A-Z0-9_]+_)\*")
_SHORT = 24
_FEW = 4


class Protocols:
    """Finds the protocols of devices by their type.

    Args:
        references: of drivers that are in no entry point: the frontend's class, as `module:Class`, by device type.
    """

    def __init__(self, references: Mapping[str, str] | None = None) -> None:
        self._references = dict(references or {})
        self._known: dict[str, Protocol | None] = {}

    def learn(self, references: Mapping[str, str]) -> None:
        """Takes more references; what was found already stays."""
        for type, reference in references.items():
            if self._references.get(type) != reference:
                self._references[type] = reference
                self._known.pop(type, None)

    def of(self, device: str) -> Protocol | None:
        """Returns the protocol of a device by its nodename; None where there is none, or none that can be loaded."""
        parts = device.split("/")
        if len(parts) < 2:
            return None
        type = parts[1]
        if type not in self._known:
            self._known[type] = self._load(type)
        return self._known[type]

    def _load(self, type: str) -> Protocol | None:
        try:
            reference = self._references.get(type)
            if reference is not None:
                return load_frontend(_class(reference)).protocol
            return load_driver(type).protocol
        except Exception:  # whatever a driver's module does when it is imported: its entries are shown as bytes
            return None

    def entry(self, event: TraceEvent) -> Struct | None:
        """Returns an entry as what it is, in a copy; None where that is not known, or not all of it was recorded."""
        protocol = self.of(event.device) if event.kind == abi.XENLIKE_TRACE_ENTRY else None
        if protocol is None or event.side not in (0, 1):
            return None
        is_request = (event.side == 0) == (event.event == abi.XENLIKE_TRACE_PUSHED)
        return entry_of(protocol.requests if is_request else protocol.responses, event.payload)


def entry_of(kinds: tuple[type[Struct], ...], data: bytes) -> Struct | None:
    """Returns an entry as that of several structures which it is; None where it is too short for it.

    A structure that is a variant has a member whose text is nothing but a constant's name, as
    `operation: u8 = field("BLKIF_OP_DISCARD")`; the first structure is what an entry is otherwise.
    """
    for kind in (*kinds[1:], kinds[0]):
        if len(data) < kind.__layout__.size:
            continue
        entry = kind.unpack(data)
        if kind is kinds[0] or any(_is_tagged(entry, member) for member in kind.__layout__.fields.values()):
            return entry
    return None


def _is_tagged(entry: Struct, member: FieldLayout) -> bool:
    if not _CONSTANT.fullmatch(member.doc):
        return False
    expected = getattr(sys.modules.get(type(entry).__module__), member.doc, None)
    return isinstance(expected, int) and getattr(entry, member.name) == expected


def show(entry: Struct) -> str:
    """Returns a structure in one line: `EchoRequest id=1 gref=8 size=5`; constants by their names where they say."""
    return " ".join([type(entry).__name__, *(f"{name}={value}" for name, value in fields_of(entry).items())])


def fields_of(entry: Struct) -> dict[str, str]:
    """Returns the members of a structure as texts; padding is left out."""
    return {
        name: _show_value(entry, member, getattr(entry, name))
        for name, member in entry.__layout__.fields.items()
        if not name.startswith(("pad", "_pad", "reserved"))
    }


def _show_value(entry: Struct, member: FieldLayout, value: Any) -> str:
    if isinstance(value, int):
        return _constant(entry, member, value) or str(value)
    if isinstance(value, bytes):
        return _show_bytes(value)
    if isinstance(value, (list, tuple)):
        return _show_many(value)
    if hasattr(value, "__layout__"):
        return "{" + " ".join(f"{name}={text}" for name, text in fields_of(value).items()) + "}"
    return printable(str(value).encode())


def _constant(entry: Struct, member: FieldLayout, value: int) -> str:
    family = _FAMILY.search(member.doc)
    if family is None:
        return ""
    module = sys.modules.get(type(entry).__module__)
    for name, constant in vars(module).items() if module is not None else ():
        if name.startswith(family[1]) and type(constant) is int and constant == value:
            return f"{value}/{name.removeprefix(family[1])}"
    return ""


def _show_bytes(value: bytes) -> str:
    value = value.rstrip(b"\0")
    more = "..." if len(value) > _SHORT else ""
    value = value[:_SHORT]
    if value.isascii() and printable(value) == value.decode("ascii"):
        return f"'{value.decode()}'{more}"
    return value.hex() + more


def _show_many(values: Any) -> str:
    """The values up to the last that is not zero, the first few of them."""
    texts = [
        "{" + " ".join(f"{name}={text}" for name, text in fields_of(value).items()) + "}"
        if hasattr(value, "__layout__")
        else str(value)
        for value in values
        if not hasattr(value, "__layout__") or any(value.pack())
    ]
    while texts and texts[-1] == "0":
        texts.pop()
    more = [f"... {len(texts) - _FEW} more"] if len(texts) > _FEW else []
    return "[" + ", ".join(texts[:_FEW] + more) + "]"


def _class(reference: str) -> type:
    found = resolve(reference)
    if not isinstance(found, type):
        raise TypeError(f"{reference!r} is no class")
    return found
