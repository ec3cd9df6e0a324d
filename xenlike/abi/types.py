"""The scalar types of Xen's public headers, as annotations.

An annotation such as `u32` is an `int` to a type checker and a layout to `Struct`: size, alignment
(natural: equal to the size, as in the x86_64 ABI), byte order (little endian) and C name.

Arrays are written `Annotated[tuple[u32, ...], Array(u32, 16)]`, character arrays
`Annotated[bytes, Bytes(64)]`, for which `char64` and its like are short forms.
"""

# ruff: noqa: PYI042 - the names are the headers' own
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NewType, TypeAlias

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT


@dataclass(frozen=True, slots=True)
class Scalar:
    """An integer: its `struct` format letter, its size in bytes and its C type."""

    code: str
    size: int
    ctype: str

    @property
    def signed(self) -> bool:
        """True for the two's complement types."""
        return self.code.islower()


@dataclass(frozen=True, slots=True)
class Bytes:
    """`char name[length]`: bytes, padded with NULs when packed, NULs at the end dropped when unpacked."""

    length: int


@dataclass(frozen=True, slots=True)
class Array:
    """`type name[length]`: a tuple; a shorter one is padded with zeros when packed.

    Args:
        type: a scalar alias such as `u32`, or a `Struct` class.
        length: number of elements.
        count: a scalar field declared before this one that says how many elements are in use.
            `unpack` then builds only these, at most `length` of them: the field itself is left as
            the peer wrote it, to be validated by who reads it.
    """

    type: object
    length: int
    count: str = ""


u8: TypeAlias = Annotated[int, Scalar("B", 1, "uint8_t")]
u16: TypeAlias = Annotated[int, Scalar("H", 2, "uint16_t")]
u32: TypeAlias = Annotated[int, Scalar("I", 4, "uint32_t")]
u64: TypeAlias = Annotated[int, Scalar("Q", 8, "uint64_t")]
s8: TypeAlias = Annotated[int, Scalar("b", 1, "int8_t")]
s16: TypeAlias = Annotated[int, Scalar("h", 2, "int16_t")]
s32: TypeAlias = Annotated[int, Scalar("i", 4, "int32_t")]
s64: TypeAlias = Annotated[int, Scalar("q", 8, "int64_t")]

domid_t: TypeAlias = u16
gref_t: TypeAlias = u32
evtchn_port_t: TypeAlias = u32
grant_handle_t: TypeAlias = u32
xen_pfn_t: TypeAlias = u64

char16: TypeAlias = Annotated[bytes, Bytes(16)]
char32: TypeAlias = Annotated[bytes, Bytes(32)]
char64: TypeAlias = Annotated[bytes, Bytes(64)]

DomId = NewType("DomId", int)
Gref = NewType("Gref", int)
Port = NewType("Port", int)
Pfn = NewType("Pfn", int)
