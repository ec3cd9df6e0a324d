"""One class body per C structure: layout, codec, C source, documentation and type hints at once.

    class EchoRequest(Struct, c="echoif_request"):
        id: u64 = field("private to the frontend, echoed in the response")
        gref: gref_t = field("page holding the text")

    EchoRequest(id=7, gref=8).pack()        # bytes
    EchoRequest.unpack(buffer, offset=64)   # EchoRequest(id=7, gref=8)
    EchoRequest.unpack_many(buffer, 32)     # a list
    EchoRequest.__layout__.size             # 16
    EchoRequest.__layout__.codec            # struct.Struct, for who wants bare integers

Offsets follow C's natural alignment on x86_64, little endian. The methods are generated once per
class, as `dataclasses` does it, around one precompiled `struct.Struct`.

Two values are equal when their bytes are: `seg=()` equals a `seg` of eleven zero segments.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform, get_origin

from xenlike.abi.codec import Member, generate_struct, generate_union, is_struct, place
from xenlike.abi.layout import FieldLayout, Layout
from xenlike.abi.types import Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Struct", "Union", "field"]


class _Field:
    __slots__ = ("default", "doc", "limit", "unit")

    def __init__(self, doc: str, unit: str, default: object, limit: int | str | None = None) -> None:
        self.doc = doc
        self.unit = unit
        self.default = default
        self.limit = limit


def field(doc: str = "", *, unit: str = "", default: object = None, limit: int | str | None = None) -> Any:
    """Describes a member: what it means, its unit, its value when it is not given, and how large it may honestly be.

    `limit` is a number, or the name of a `Node` of the protocol that holds it, such as "max-size". Nothing
    checks it when a message is packed or unpacked, for the other end's values are its own: a backend has to
    refuse a request that is over a limit, and `xenlike.testing.check_driver` sees to it that it does.

    It is deliberately not a `dataclass_transform` field specifier: to a type checker any member
    with a right-hand side is optional, which is what it is (zero when left out). That is also why
    the return type is `Any`.
    """
    return _Field(doc, unit, default, limit)


def _annotations(namespace: Mapping[str, Any]) -> dict[str, object]:
    if sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        if annotate is None:
            return {}
        return dict(annotationlib.call_annotate_function(annotate, annotationlib.Format.VALUE))
    return dict(namespace.get("__annotations__", {}))


def _members(namespace: dict[str, Any], caller: Any) -> list[Member]:
    """Takes the members out of a class body; names in quoted annotations are looked up where it stands."""
    members = []
    for name, annotation in _annotations(namespace).items():
        if isinstance(annotation, str):
            if "ClassVar" in annotation:
                continue
            annotation = eval(annotation, caller.f_globals, dict(caller.f_locals))
        if get_origin(annotation) is ClassVar:
            continue
        given = namespace.pop(name, None)
        info = given if isinstance(given, _Field) else _Field("", "", given)
        members.append(Member(name, annotation, info.default, info.doc, info.unit, info.limit))
    return members


def _describe(member: Member, offset: int) -> FieldLayout:
    return FieldLayout(
        name=member.name,
        offset=offset,
        size=member.size,
        ctype=member.ctype,
        length=member.length,
        doc=member.doc,
        unit=member.unit,
        limit=member.limit,
        scalar=member.element if isinstance(member.element, Scalar) else None,
        nested=member.element.__layout__ if is_struct(member.element) else None,
        is_scalar=isinstance(member.spec, Scalar),
    )


@dataclass_transform(eq_default=True)
class StructMeta(type):
    """Turns a class body into a layout; use it through `Struct` and `Union`.

    Class keywords:
        c: the structure's tag in C; the class's name where it is not given.
        typedef: its other name in C, such as `blkif_request_t`.
        anonymous: C's header gives it no name of its own, so `c` is ours.
    """

    __layout__: Layout
    _format: str
    _width: int
    _from: Callable[[Sequence[object]], Any]
    _values: Any
    unpack: Any

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        c: str = "",
        typedef: str = "",
        anonymous: bool = False,
    ) -> StructMeta:
        if not bases or (bases == (Struct,) and namespace.get("_kind") == "union"):
            return super().__new__(mcls, name, bases, namespace)
        if len(bases) > 1 or is_struct(bases[0]):
            raise TypeError(f"{name}: a structure has one base, Struct or Union, and cannot be extended")
        kind = str(getattr(bases[0], "_kind", "struct"))
        members = _members(namespace, sys._getframe(1))
        offsets, size, align, fmt = place(members, kind == "union")
        fields = {member.name: _describe(member, offset) for member, offset in zip(members, offsets, strict=True)}
        namespace["__slots__"] = ("_raw",) if kind == "union" else tuple(fields)
        namespace["__match_args__"] = tuple(fields)
        namespace["__layout__"] = Layout(
            size=size,
            align=align,
            c_name=c or name,
            kind=kind,
            typedef=typedef,
            anonymous=anonymous,
            fields=fields,
            doc=(namespace.get("__doc__") or "").strip(),
            codec=struct.Struct("<" + fmt),
        )
        namespace["_format"] = fmt
        cls = super().__new__(mcls, name, bases, namespace)
        cls._width = sum(member.width for member in members) if kind == "struct" else 1
        if kind == "struct":
            generate_struct(cls, members)
        else:
            generate_union(cls, members)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: str | bool) -> None:
        super().__init__(name, bases, namespace)


class Struct(metaclass=StructMeta):
    """Base of all C structures; see the module's text."""

    __slots__ = ()
    _kind: ClassVar[str] = "struct"
    __layout__: ClassVar[Layout]
    __hash__ = None  # type: ignore[assignment]

    def pack(self) -> bytes:
        """Returns the structure's bytes.

        Raises:
            ValueError: a member does not fit its C type.
            TypeError: a member is not of its type.
        """
        raise NotImplementedError

    def pack_into(self, buf: WriteableBuffer, offset: int = 0) -> None:
        """Writes the structure's bytes at `offset` of a writable buffer; errors as for `pack`."""
        raise NotImplementedError

    @classmethod
    def unpack(cls, buf: ReadableBuffer, offset: int = 0) -> Self:
        """Reads a structure at `offset` of a buffer, which ought to be private memory.

        Raises:
            ValueError: the buffer ends before the structure does.
        """
        raise NotImplementedError

    @classmethod
    def unpack_many(cls, buf: ReadableBuffer, count: int, offset: int = 0) -> list[Self]:
        """Reads `count` structures that lie one after the other; as `unpack`, but quicker for many."""
        size = cls.__layout__.size
        view = memoryview(buf).cast("B")[offset : offset + count * size]
        if len(view) < count * size:
            raise ValueError(f"{cls.__layout__.c_name}: {count} of them need {count * size} bytes, got {len(view)}")
        make = cls._from
        return [make(values) for values in cls.__layout__.codec.iter_unpack(view)]

    def _values(self) -> Sequence[object]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.pack() == other.pack()

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__layout__.fields)
        return f"{type(self).__name__}({members})"


class Union(Struct):
    """Base of all C unions: bytes that can be read and written as any of the members.

    A member that is a structure is read as a copy: assign the whole member to change it.
    """

    _kind: ClassVar[str] = "union"
    __slots__ = ()
