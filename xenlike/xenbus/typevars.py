"""The types of a driver's messages, as parameters of its classes.

`class EchoBack(Backend[EchoRequest, EchoResponse], protocol=ECHO)` is checked by type checkers down to
the members; plain `Backend` works as well, and takes any message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike.abi.struct import Struct

if TYPE_CHECKING:
    from typing import Any

    # Only type checkers know defaults of type variables (PEP 696) on every Python that we support.
    from typing_extensions import TypeVar

    RequestT = TypeVar("RequestT", bound=Struct, default=Any)
    ResponseT = TypeVar("ResponseT", bound=Struct, default=Any)
else:
    from typing import TypeVar

    RequestT = TypeVar("RequestT", bound=Struct)
    ResponseT = TypeVar("ResponseT", bound=Struct)
