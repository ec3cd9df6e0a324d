"""How a class body's members become offsets and generated methods; `Struct` is the user's side of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard, get_args, get_origin

from xenlike.abi.types import Array, Bytes, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from _typeshed import ReadableBuffer, WriteableBuffer

    from xenlike.abi.struct import Struct, StructMeta


def is_struct(item: object) -> TypeGuard[StructMeta]:
    """True for `Struct` and `Union` classes."""
    return isinstance(item, type) and hasattr(item, "__layout__")


def spec_of(annotation: object) -> object:
    """Returns the `Scalar`, `Bytes`, `Array` or `Struct` class that an annotation stands for."""
    if isinstance(annotation, (Scalar, Bytes, Array)) or is_struct(annotation):
        return annotation
    if get_origin(annotation) is Annotated:
        for item in get_args(annotation)[1:]:
            if isinstance(item, (Scalar, Bytes, Array)):
                return item
    raise TypeError(f"{annotation!r} has no C layout: use u8..s64, char64, Annotated[...], or a Struct")


class Member:
    """One member: its size and format, and the expressions by which it is packed and unpacked.

    A member is packed as `width` values of a `struct` format: one for an integer or a character
    array, those of its elements for an array or a structure.
    """

    def __init__(
        self, name: str, annotation: object, default: object, doc: str, unit: str, limit: int | str | None = None
    ) -> None:
        self.name = name
        self.spec = spec = spec_of(annotation)
        self.given = default
        self.doc = doc
        self.unit = unit
        self.limit = limit
        self.length: int | None = None
        self.helpers: dict[str, object] = {}
        if isinstance(spec, Array):
            self.length = spec.length
            spec = spec_of(spec.type)
        self.element: Any = spec
        if isinstance(spec, Scalar):
            self.size, self.align, self.format, self.width = spec.size, spec.size, spec.code, 1
            self.ctype = spec.ctype
        elif isinstance(spec, Bytes) and self.length is None:
            self.size, self.align, self.format, self.width = spec.length, 1, f"{spec.length}s", 1
            self.ctype, self.length = "char", spec.length
        elif is_struct(spec):
            layout = spec.__layout__
            self.size, self.align, self.format, self.width = layout.size, layout.align, spec._format, spec._width
            self.ctype = layout.c_tag
        else:
            raise TypeError(f"{name}: arrays hold integers or structures, not {spec!r}")
        self.element_width = self.width
        if isinstance(self.spec, Array):
            self.size *= self.spec.length
            self.format *= self.spec.length
            self.width *= self.spec.length

    def pack_expression(self) -> str:
        """Returns what yields this member's values in a call's argument list."""
        value = f"self.{self.name}"
        if isinstance(self.spec, Array):
            self.helpers[f"flat_{self.name}"] = _flattener(self)
            return f"*flat_{self.name}({value})"
        if isinstance(self.spec, Bytes):
            self.helpers[f"fit_{self.name}"] = _fitter(self.name, self.spec.length)
            return f"fit_{self.name}({value})"
        return value if isinstance(self.spec, Scalar) else f"*{value}._values()"

    def unpack_expression(self, index: int, index_of: Mapping[str, int]) -> str:
        """Returns what builds this member from the tuple `v` of all values, its own from `index`."""
        if isinstance(self.spec, Scalar):
            return f"v[{index}]"
        if isinstance(self.spec, Bytes):
            return f"v[{index}].rstrip(NUL)"
        end = str(index + self.width)
        if is_struct(self.element):
            self.helpers[f"make_{self.name}"] = self.element._from
        if not isinstance(self.spec, Array):
            return f"make_{self.name}(v[{index}:{end}])"
        step = self.element_width
        if self.spec.count:
            # The count is the peer's: it may say more than there is.
            end = f"{index} + {step} * min(v[{index_of[self.spec.count]}], {self.spec.length})"
        if isinstance(self.element, Scalar):
            return f"v[{index}:{end}]"
        return f"tuple([make_{self.name}(v[i:i + {step}]) for i in range({index}, {end}, {step})])"

    def read(self, values: Sequence[Any]) -> Any:
        """Builds this member's value from its own unpacked values, without generated code."""
        if isinstance(self.spec, Scalar):
            return values[0]
        if isinstance(self.spec, Bytes):
            return values[0].rstrip(b"\0")
        if not isinstance(self.spec, Array):
            return self.element._from(values)
        if isinstance(self.element, Scalar):
            return tuple(values)
        step = self.element_width
        return tuple([self.element._from(values[i : i + step]) for i in range(0, self.width, step)])

    def write(self, value: Any) -> Sequence[object]:
        """Returns the values to be packed for this member, without generated code."""
        if isinstance(self.spec, Array):
            return _flattener(self)(value)
        if isinstance(self.spec, Bytes):
            return (_fitter(self.name, self.spec.length)(value),)
        if isinstance(self.spec, Scalar):
            return (value,)
        values: Sequence[object] = value._values()
        return values

    def default(self) -> object:
        """Returns the value a constructor uses when the member is not given; None: a zero structure."""
        if self.given is not None:
            return self.given
        if isinstance(self.spec, Scalar):
            return 0
        if isinstance(self.spec, Bytes):
            return b""
        return () if isinstance(self.spec, Array) else None


def _fitter(name: str, length: int) -> Callable[[bytes], bytes]:
    def fit(value: bytes) -> bytes:
        if len(value) > length:
            raise ValueError(f"{name} is {len(value)} bytes, at most {length} fit")
        return value

    return fit


def _flattener(member: Member) -> Callable[[Sequence[Any]], Sequence[object]]:
    length, name = member.length or 0, member.name

    def check(items: Sequence[Any]) -> int:
        missing = length - len(items)
        if missing < 0:
            raise ValueError(f"{name} has {len(items)} elements, at most {length} fit")
        return missing

    if isinstance(member.element, Scalar):

        def flat(items: Sequence[Any]) -> Sequence[object]:
            missing = check(items)
            return (*items, *(0,) * missing) if missing else items

        return flat
    zeros = tuple(member.element()._values())

    def flat_structs(items: Sequence[Any]) -> Sequence[object]:
        missing = check(items)
        values: list[object] = []
        for item in items:
            values += item._values()
        if missing:
            values += zeros * missing
        return values

    return flat_structs


def place(members: Sequence[Member], union: bool) -> tuple[list[int], int, int, str]:
    """Returns the offsets, size, alignment and `struct` format of a C structure or union."""
    offsets, end, align, fmt = [], 0, 1, ""
    for member in members:
        start = 0 if union else (end + member.align - 1) & -member.align
        if not union:
            fmt += "x" * (start - end) + member.format
        offsets.append(start)
        end = max(end, start + member.size)
        align = max(align, member.align)
    size = (end + align - 1) & -align
    return offsets, size, align, f"{size}s" if union else fmt + "x" * (size - end)


_SOURCE = """
def __init__(self{parameters}):
    {assignments}
def _values(self):
    return ({values})
def _from(v):
    self = new(cls)
    {unpacked}
    return self
"""


def generate_struct(cls: StructMeta, members: Sequence[Member]) -> None:
    """Gives a class its constructor and codec, generated as source as `dataclasses` does it."""
    scope: dict[str, Any] = {"cls": cls, "new": object.__new__, "NUL": b"\0"}
    parameters, assignments, values, unpacked = "", [], "", []
    index, index_of = 0, {}
    for member in members:
        scope[f"default_{member.name}"] = member.default()
        parameters += f", {member.name}=default_{member.name}"
        given = member.name
        if is_struct(member.spec):
            scope[f"type_{member.name}"] = member.spec
            given = f"type_{member.name}() if {member.name} is None else {member.name}"
        assignments.append(f"self.{member.name} = {given}")
        values += member.pack_expression() + ", "
        index_of[member.name] = index
        unpacked.append(f"self.{member.name} = {member.unpack_expression(index, index_of)}")
        index += member.width
        scope.update(member.helpers)
    if members and all(isinstance(member.spec, Scalar) for member in members):
        unpacked = ["".join(f"self.{member.name}, " for member in members) + "= v"]
    source = _SOURCE.format(
        parameters=parameters,
        assignments="\n    ".join(assignments) or "pass",
        values=values,
        unpacked="\n    ".join(unpacked) or "pass",
    )
    exec(compile(source, f"<layout of {cls.__name__}>", "exec"), scope)
    scope["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    setattr(cls, "__init__", scope["__init__"])  # noqa: B010 - mypy takes a plain assignment for an override
    _add_methods(cls, scope["_values"], scope["_from"])


def _add_methods(
    cls: StructMeta, values: Callable[[Any], Sequence[object]], make: Callable[[Sequence[Any]], Any]
) -> None:
    """Gives a structure or union `pack`, `pack_into` and `unpack`, around its precompiled codec."""
    c_name, codec = cls.__layout__.c_name, cls.__layout__.codec
    to_bytes, to_buffer, from_buffer = codec.pack, codec.pack_into, codec.unpack_from

    def pack(self: Any) -> bytes:
        try:
            return to_bytes(*values(self))
        except (struct.error, TypeError) as reason:
            raise _explain(self, reason) from None

    def pack_into(self: Any, buf: WriteableBuffer, offset: int = 0) -> None:
        try:
            to_buffer(buf, offset, *values(self))
        except (struct.error, TypeError) as reason:
            raise _explain(self, reason) from None

    def unpack(buf: ReadableBuffer, offset: int = 0) -> Any:
        try:
            return make(from_buffer(buf, offset))
        except struct.error as reason:
            raise ValueError(f"{c_name}: {reason}") from None

    for method in (pack, pack_into):
        method.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
        setattr(cls, method.__name__, method)
    cls._values = values
    cls._from = staticmethod(make)
    cls.unpack = staticmethod(unpack)


def _explain(value: Struct, reason: Exception) -> Exception:
    """Returns the error for a value that does not pack, with the member that is to blame."""
    c_name = value.__layout__.c_name
    for name, member in value.__layout__.fields.items():
        item = getattr(value, name)
        if member.low is None or member.high is None:
            continue
        if not isinstance(item, int):
            return TypeError(f"{c_name}.{name} must be an int, got {item!r}")
        if not member.low <= item <= member.high:
            return ValueError(f"{c_name}.{name} = {item} is not in {member.low}..{member.high}")
    return ValueError(f"{c_name}: {reason}")


def generate_union(cls: StructMeta, members: Sequence[Member]) -> None:
    """Gives a union its constructor, members and codec; it keeps its bytes."""
    new: Any = object.__new__
    size, names = cls.__layout__.size, frozenset(cls.__layout__.fields)

    def initialise(self: Any, **given: object) -> None:
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} is a union: give one member, not {', '.join(given)}")
        self._raw = bytes(size)
        for name, value in given.items():
            if name not in names:
                raise TypeError(f"{cls.__name__} has no member {name}")
            setattr(self, name, value)

    def make(values: Sequence[Any]) -> Any:
        self = new(cls)
        self._raw = values[0]
        return self

    setattr(cls, "__init__", initialise)  # noqa: B010 - as above
    for member in members:
        setattr(cls, member.name, _union_member(cls.__layout__.c_name, member))
    _add_methods(cls, lambda self: (self._raw,), make)


def _union_member(c_name: str, member: Member) -> property:
    codec = struct.Struct("<" + member.format)

    def get(self: Any) -> Any:
        return member.read(codec.unpack_from(self._raw))

    def put(self: Any, value: Any) -> None:
        try:
            packed = codec.pack(*member.write(value))
        except struct.error as reason:
            raise ValueError(f"{c_name}.{member.name} = {value!r}: {reason}") from None
        self._raw = packed + self._raw[len(packed) :]

    return property(get, put, doc=member.doc)
