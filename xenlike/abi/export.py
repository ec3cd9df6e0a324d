"""Everything that `xenlike.abi` and `xenlike.io` declare, under the names it has in C.

Keys are C expressions: `sizeof(blkif_request_t)` gives a size, `blkif_request_t.id` an offset and a size,
`BLKIF_OP_READ` a number. A C program that prints these expressions can so be compared with all of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from xenlike.abi.protocol import Protocol
from xenlike.abi.ring import XEN, ring_size
from xenlike.abi.struct import Struct, Union
from xenlike.abi.xenbus import XenbusState
from xenlike.abi.xs_wire import XSD_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from xenlike.abi.layout import Layout

    Value = int | list[int]

OUR_NAMES = ("xenlike_", "echoif", "kvif", "rngif", "sensorif", "XENLIKE_", "ECHOIF_", "KVIF_", "RNGIF_", "SENSORIF_")
"""Names of our own protocols; the others are Xen's."""

_RING_BYTES = (4096, 8192, 65536)


def modules() -> Iterator[ModuleType]:
    """Yields every module of declarations; found by name, because `abi` must not import `io`."""
    for package in ("xenlike.abi", "xenlike.io"):
        path = importlib.import_module(package).__path__
        for info in sorted(pkgutil.iter_modules(path), key=lambda info: info.name):
            if info.name != "__main__":
                yield importlib.import_module(f"{package}.{info.name}")


def layouts(module: ModuleType) -> list[Layout]:
    """Returns the layouts a module declares, in its order, without those C has no name for."""
    return [
        item.__layout__
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Struct)
        and item not in (Struct, Union)
        and item.__module__ == module.__name__
        and not item.__layout__.anonymous
    ]


def numbers(module: ModuleType) -> dict[str, int]:
    """Returns the constants a module declares: its integers in capitals, such as `XS_READ`."""
    own = getattr(module, "__annotations__", {})
    return {
        name: value
        for name, value in vars(module).items()
        if name in own and name[:3].isupper() and isinstance(value, int)
    }


def _layout_values(layout: Layout) -> dict[str, Value]:
    values: dict[str, Value] = {f"sizeof({layout.c_type})": layout.size}
    for member in layout.fields.values():
        values[f"{layout.c_type}.{member.c_name}"] = [member.offset, member.size]
    return values


def _ring_values(protocol: Protocol) -> dict[str, Value]:
    tag, entry = protocol.name, protocol.entry_size
    ring = XEN(entry)
    values: dict[str, Value] = {
        f"sizeof(union {tag}_sring_entry)": entry,
        f"sizeof({tag}_sring_t)": ring.slots + entry,
        f"{tag}_sring_t.req_prod": [ring.req_prod, 4],
        f"{tag}_sring_t.req_event": [ring.req_event, 4],
        f"{tag}_sring_t.rsp_prod": [ring.rsp_prod, 4],
        f"{tag}_sring_t.rsp_event": [ring.rsp_event, 4],
        f"{tag}_sring_t.ring": [ring.slots, entry],
    }
    for nbytes in _RING_BYTES:
        values[f"__CONST_RING_SIZE({tag},{nbytes})"] = ring_size(ring, nbytes)
    return values


def everything() -> dict[str, Value]:
    """Returns all sizes, offsets and numbers by their C expressions."""
    values: dict[str, Value] = {}
    for module in modules():
        for layout in layouts(module):
            values.update(_layout_values(layout))
        for item in vars(module).values():
            if isinstance(item, Protocol):
                values.update(_ring_values(item))
        for name, number in numbers(module).items():
            values[c_constant(name)] = number
    values["sizeof(xsd_errors)/sizeof(xsd_errors[0])"] = len(XSD_ERRORS)
    values.update({f"XenbusState{state.name}": int(state) for state in XenbusState})
    return values


def c_constant(name: str) -> str:
    """Returns a constant's name in Xen's headers: a leading `__` would be mangled in Python classes."""
    return f"__{name}" if name.startswith("HYPERVISOR_") else name


def is_ours(expression: str) -> bool:
    """True for an expression of our own protocols, which Xen's headers do not know."""
    return any(name in expression for name in OUR_NAMES)
