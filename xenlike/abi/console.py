"""The page of a console: two byte rings (Xen's `io/console.h`)."""

from __future__ import annotations

from typing import Annotated, Final

from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Bytes, u32

XENCONS_IN_SIZE: Final = 1024
XENCONS_OUT_SIZE: Final = 2048


class XenconsInterface(Struct, c="xencons_interface"):
    """`in` is read by the guest, `out` written by it; the names have an underscore in Python only."""

    in_: Annotated[bytes, Bytes(XENCONS_IN_SIZE)] = field("bytes for the guest")
    out: Annotated[bytes, Bytes(XENCONS_OUT_SIZE)] = field("bytes from the guest")
    in_cons: u32 = field("guest writes")
    in_prod: u32 = field("console daemon writes")
    out_cons: u32 = field("console daemon writes")
    out_prod: u32 = field("guest writes")


IN_OFFSET: Final = XenconsInterface.__layout__.fields["in_"].offset
OUT_OFFSET: Final = XenconsInterface.__layout__.fields["out"].offset
