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
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, dataclass_transform, get_args, get_origin

from xenlike.abi.layout import FieldLayout, Layout
from xenlike.abi.types import Array, Bytes, Scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Struct", "Union", "field"]


class _Field:
    __slots__ = ("default", "doc", "unit")

    def __init__(self, doc: str, unit: str, default: object) -> None:
        self.doc = doc
        self.unit = unit
        self.default = default


def field(doc: str = "", *, unit: str = "", default: object = None) -> Any:
    """Describes a member: what it means, its unit, and its value when it is not given.

    It is deliberately not a `dataclass_transform` field specifier: to a type checker any member
    with a right-hand side is optional, which is what it is (zero when left out). That is also why
    the return type is `Any`.
    """
    return _Field(doc, unit, default)


def _round_up(value: int, align: int) -> int:
    return (value + align - 1) & -align


def _annotations(namespace: Mapping[str, Any]) -> dict[str, object]:
    if sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        if annotate is None:
            return {}
        return dict(annotationlib.call_annotate_function(annotate, annotationlib.Format.VALUE))
    return dict(namespace.get("__annotations__", {}))


def _spec(annotation: object) -> object:
    """Returns the `Scalar`, `Bytes`, `Array` or `Struct` class that an annotation stands for."""
    if isinstance(annotation, (Scalar, Bytes, Array, StructMeta)):
        return annotation
    if get_origin(annotation) is Annotated:
        for item in get_args(annotation)[1:]:
            if isinstance(item, (Scalar, Bytes, Array)):
                return item
    raise TypeError(f"{annotation!r} has no C layout: use u8..s64, char64, Annotated[...], or a Struct")


class _Member:
    """One member: where it lies, and the expressions by which it is packed and unpacked."""

    def __init__(self, name: str, spec: object, info: _Field) -> None:
        self.name = name
        self.spec = spec
        self.info = info
        self.length: int | None = None
        self.helpers: dict[str, object] = {}
        element = spec
        if isinstance(spec, Array):
            self.length = spec.length
            element = _spec(spec.type)
        self.element = element
        if isinstance(element, Scalar):
            size, self.align, self.format, self.width = element.size, element.size, element.code, 1
            self.ctype = element.ctype
        elif isinstance(element, Bytes):
            size, self.align, self.format, self.width = element.length, 1, f"{element.length}s", 1
            self.ctype, self.length = "char", element.length
        elif isinstance(element, StructMeta):
            layout = element.__layout__
            size, self.align, self.format, self.width = layout.size, layout.align, element._format, element._width
            self.ctype = layout.c_tag
        else:
            raise TypeError(f"{name}: arrays hold scalars or structs, not {element!r}")
        if isinstance(spec, Array):
            size *= spec.length
            self.format *= spec.length
            self.width *= spec.length
        self.size = size

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
        """Returns what builds this member from the tuple `v` of unpacked values."""
        if isinstance(self.spec, Scalar):
            return f"v[{index}]"
        if isinstance(self.spec, Bytes):
            return f"v[{index}].rstrip(NUL)"
        self.helpers[f"make_{self.name}"] = getattr(self.element, "_from", None)
        if not isinstance(self.spec, Array):
            return f"make_{self.name}(v[{index}:{index + self.width}])"
        end = str(index + self.width)
        step = self.width // self.spec.length if self.spec.length else 1
        if self.spec.count:
            end = f"{index} + {step} * min(v[{index_of[self.spec.count]}], {self.spec.length})"
        if isinstance(self.element, Scalar):
            return f"v[{index}:{end}]"
        return f"tuple([make_{self.name}(v[i:i + {step}]) for i in range({index}, {end}, {step})])"

    def default(self) -> object:
        """Returns the value a constructor uses for a member that is not given."""
        if self.info.default is not None:
            return self.info.default
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


def _flattener(member: _Member) -> Callable[[Sequence[Any]], Sequence[object]]:
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
    element = member.element
    assert isinstance(element, StructMeta)
    zeros: tuple[object, ...] = tuple(element()._values())

    def flat_structs(items: Sequence[Any]) -> Sequence[object]:
        missing = check(items)
        values: list[object] = []
        for item in items:
            values += item._values()
        if missing:
            values += zeros * missing
        return values

    return flat_structs


def _place(members: Sequence[_Member], union: bool) -> tuple[list[int], int, int, str]:
    """Returns the offsets, size and alignment of a C struct or union, and its struct format."""
    offsets, end, align, fmt = [], 0, 1, ""
    for member in members:
        start = 0 if union else _round_up(end, member.align)
        fmt += "x" * (start - end) + member.format if start >= end else ""
        offsets.append(start)
        end = max(end, start + member.size)
        align = max(align, member.align)
    size = _round_up(end, align)
    return offsets, size, align, f"{size}s" if union else fmt + "x" * (size - end)


_STRUCT_SOURCE = """
def __init__(self{parameters}):
    {assignments}
def _values(self):
    return ({values})
def _from(v):
    self = new(cls)
    {unpacked}
    return self
def pack(self):
    try:
        return PACK({values})
    except (error, TypeError) as reason:
        raise explain(self, reason) from None
def pack_into(self, buf, offset=0):
    try:
        PACK_INTO(buf, offset, {values})
    except (error, TypeError) as reason:
        raise explain(self, reason) from None
def unpack(buf, offset=0):
    try:
        v = UNPACK_FROM(buf, offset)
    except error as reason:
        raise ValueError(f"{c_name}: {{reason}}") from None
    {inline}
"""


def _generate(cls: StructMeta, members: Sequence[_Member]) -> None:
    codec = cls.__layout__.codec
    scope: dict[str, Any] = {"PACK": codec.pack, "PACK_INTO": codec.pack_into, "UNPACK_FROM": codec.unpack_from}
    scope.update(cls=cls, new=object.__new__, NUL=b"\0", error=struct.error, explain=_explain)
    parameters, assignments, values, unpacked = "", [], "", []
    index, index_of = 0, {}
    for member in members:
        scope[f"default_{member.name}"] = member.default()
        parameters += f", {member.name}=default_{member.name}"
        if isinstance(member.spec, StructMeta):
            scope[f"type_{member.name}"] = member.spec
            given = f"type_{member.name}() if {member.name} is None else {member.name}"
        else:
            given = member.name
        assignments.append(f"self.{member.name} = {given}")
        values += member.pack_expression() + ", "
        index_of[member.name] = index
        unpacked.append(f"self.{member.name} = {member.unpack_expression(index, index_of)}")
        index += member.width
        scope.update(member.helpers)
    if members and all(isinstance(member.spec, Scalar) for member in members):
        names = ", ".join(f"self.{member.name}" for member in members)
        unpacked = [f"{names}, = v"]
    body = "\n    ".join(unpacked) or "pass"
    source = _STRUCT_SOURCE.format(
        parameters=parameters,
        assignments="\n    ".join(assignments) or "pass",
        values=values,
        unpacked=body,
        inline=f"self = new(cls)\n    {body}\n    return self",
        c_name=cls.__layout__.c_name,
    )
    exec(compile(source, f"<layout of {cls.__name__}>", "exec"), scope)
    for name in ("__init__", "_values", "pack", "pack_into"):
        scope[name].__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, scope[name])
    cls._from = staticmethod(scope["_from"])
    cls.unpack = staticmethod(scope["unpack"])
    cls._width = index


def _explain(value: Struct, reason: Exception) -> Exception:
    """Returns the error for a value that does not pack, with the member that is to blame."""
    for name, member in value.__layout__.fields.items():
        item = getattr(value, name)
        if member.low is not None and member.high is not None:
            if not isinstance(item, int):
                return TypeError(f"{value.__layout__.c_name}.{name} must be an int, got {item!r}")
            if not member.low <= item <= member.high:
                return ValueError(f"{value.__layout__.c_name}.{name} = {item} is not in {member.low}..{member.high}")
    return ValueError(f"{value.__layout__.c_name}: {reason}")


@dataclass_transform(eq_default=True)
class StructMeta(type):
    """Turns a class body into a layout; use it through `Struct` and `Union`."""

    __layout__: Layout
    _format: str
    _width: int
    _from: Callable[[Sequence[object]], Any]
    unpack: Any

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, c: str = "", typedef: str = ""
    ) -> StructMeta:
        if namespace.get("_abstract"):
            return super().__new__(mcls, name, bases, namespace)
        union = any(issubclass(base, Union) for base in bases) if "Union" in globals() else False
        caller = sys._getframe(1)
        members = []
        for key, annotation in _annotations(namespace).items():
            if isinstance(annotation, str):
                if annotation.startswith(("ClassVar", "typing.ClassVar")):
                    continue
                annotation = eval(annotation, caller.f_globals, dict(caller.f_locals))
            if get_origin(annotation) is ClassVar:
                continue
            given = namespace.pop(key, None)
            info = given if isinstance(given, _Field) else _Field("", "", given)
            members.append(_Member(key, _spec(annotation), info))
        offsets, size, align, fmt = _place(members, union)
        fields = {}
        for member, offset in zip(members, offsets, strict=True):
            spec = member.spec
            fields[member.name] = FieldLayout(
                name=member.name, offset=offset, size=member.size, ctype=member.ctype, length=member.length,
                doc=member.info.doc, unit=member.info.unit,
                scalar=member.element if isinstance(member.element, Scalar) else None,
                nested=member.element.__layout__ if isinstance(member.element, StructMeta) else None,
                is_scalar=isinstance(spec, Scalar),
            )  # fmt: skip
        namespace["__slots__"] = ("_raw",) if union else tuple(fields)
        namespace["__match_args__"] = tuple(fields)
        namespace["__layout__"] = Layout(
            size=size, align=align, c_name=c or name, kind="union" if union else "struct", typedef=typedef,
            fields=fields, doc=(namespace.get("__doc__") or "").strip(), codec=struct.Struct("<" + fmt),
        )  # fmt: skip
        namespace["_format"] = fmt
        namespace["_width"] = 1
        cls = super().__new__(mcls, name, bases, namespace)
        if union:
            _generate_union(cls, members, size)
        else:
            _generate(cls, members)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: str) -> None:
        super().__init__(name, bases, namespace)


class Struct(metaclass=StructMeta):
    """Base of all C structures; see the module's text."""

    _abstract: ClassVar[bool] = True
    __slots__ = ()
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

    _abstract: ClassVar[bool] = True
    __slots__ = ()


def _generate_union(cls: StructMeta, members: Sequence[_Member], size: int) -> None:
    new: Any = object.__new__

    def initialise(self: Any, **given: Any) -> None:
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} is a union: give one member, not {', '.join(given)}")
        self._raw = bytes(size)
        for name, value in given.items():
            if name not in cls.__layout__.fields:
                raise TypeError(f"{cls.__name__} has no member {name}")
            setattr(self, name, value)

    def make(values: Sequence[Any]) -> Any:
        self = new(cls)
        self._raw = values[0]
        return self

    def pack_into(self: Any, buf: WriteableBuffer, offset: int = 0) -> None:
        struct.pack_into(f"{size}s", buf, offset, self._raw)

    def unpack(buf: ReadableBuffer, offset: int = 0) -> Any:
        try:
            return make(struct.unpack_from(f"{size}s", buf, offset))
        except struct.error as reason:
            raise ValueError(f"{cls.__layout__.c_name}: {reason}") from None

    for member in members:
        # A structure of the one member is its codec.
        single = StructMeta(
            f"{cls.__name__}_{member.name}", (Struct,), {"__annotations__": {"value": member.spec}}, c=member.name
        )
        setattr(cls, member.name, _union_property(single, size, member.info.doc))
    for name, method in (("__init__", initialise), ("pack_into", pack_into)):
        setattr(cls, name, method)
    setattr(cls, "_values", lambda self: (self._raw,))  # noqa: B010
    setattr(cls, "pack", lambda self: self._raw)  # noqa: B010
    cls._from = staticmethod(make)
    cls.unpack = staticmethod(unpack)


def _union_property(single: Any, size: int, doc: str) -> property:
    def get(self: Any) -> Any:
        return single.unpack(self._raw).value

    def put(self: Any, value: Any) -> None:
        packed = single(value).pack()
        self._raw = packed + self._raw[len(packed) : size]

    return property(get, put, doc=doc)
