"""What a `Struct` class knows about itself: sizes, offsets, C source and numpy dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import struct
    from collections.abc import Mapping

    import numpy as np

    from xenlike.abi.types import Scalar


@dataclass(frozen=True, slots=True)
class FieldLayout:
    """One member of a structure.

    Attributes:
        name: the member's name in Python.
        offset: bytes from the start of the structure.
        size: bytes, of the whole array if it is one.
        ctype: the C type of the member or of its elements, such as `uint32_t`.
        length: number of elements; None where it is not an array.
        doc: what it means.
        unit: its unit where that is neither a count nor bytes.
        limit: its largest honest value, or the node of the protocol that holds it; None where every value is honest.
        scalar: the integer type of the member or its elements; None for characters and structures.
        nested: the layout of the structure that the member or its elements are.
        is_scalar: True when the member is one integer.
    """

    name: str
    offset: int
    size: int
    ctype: str
    length: int | None
    doc: str
    unit: str
    scalar: Scalar | None
    nested: Layout | None
    is_scalar: bool
    limit: int | str | None = None

    @property
    def c_name(self) -> str:
        """The member's name in C: Python's keywords carry an underscore at their end here."""
        return self.name.removesuffix("_")

    @property
    def low(self) -> int | None:
        """The smallest value, where the member is one integer."""
        if self.scalar is None or not self.is_scalar:
            return None
        return -(1 << 8 * self.scalar.size - 1) if self.scalar.signed else 0

    @property
    def high(self) -> int | None:
        """The largest value, where the member is one integer."""
        if self.scalar is None or not self.is_scalar:
            return None
        return (1 << 8 * self.scalar.size - self.scalar.signed) - 1

    def c_declaration(self) -> str:
        """Returns the member as C declares it, such as `char name[64]`."""
        return f"{self.ctype} {self.c_name}" + ("" if self.length is None else f"[{self.length}]")


@dataclass(frozen=True, slots=True)
class Layout:
    """A structure's layout on x86_64.

    Attributes:
        size: bytes, with the padding at its end.
        align: bytes.
        c_name: its tag in C.
        kind: `struct` or `union`.
        typedef: its other name in C, such as `blkif_request_t`; empty where it has none.
        anonymous: True when the original header has no name for it.
        fields: the members in order, by name.
        doc: the class's docstring.
        codec: reads and writes the structure as a flat tuple of its integers, nested ones included.
    """

    size: int
    align: int
    c_name: str
    kind: str
    typedef: str
    anonymous: bool
    fields: Mapping[str, FieldLayout]
    doc: str
    codec: struct.Struct

    @property
    def c_tag(self) -> str:
        """The type by its tag, such as `struct blkif_request`."""
        return f"{self.kind} {self.c_name}"

    @property
    def c_type(self) -> str:
        """The type as Xen's headers usually name it: the typedef where there is one."""
        return self.typedef or self.c_tag

    def c_source(self) -> str:
        """Returns the C definition, one commented line per member."""
        lines = []
        if self.doc:
            text = self.doc.replace("`", "'").splitlines()
            lines += ["/*", *(f" * {line.strip()}".rstrip() for line in text), " */"]
        lines.append(f"{self.c_tag} {{")
        for member in self.fields.values():
            note = member.doc + (f" [{member.unit}]" if member.unit else "")
            comment = f" /* {note} */" if note else ""
            lines.append(f"    {member.c_declaration() + ';':<28}{comment}".rstrip())
        lines.append("};")
        return "\n".join(lines)

    def dtype(self) -> np.dtype[Any]:
        """Returns the numpy structured dtype; numpy is imported only here."""
        import numpy as np

        formats: list[Any] = []
        for member in self.fields.values():
            if member.nested is not None:
                base: Any = member.nested.dtype()
            elif member.scalar is not None:
                base = f"<{'i' if member.scalar.signed else 'u'}{member.scalar.size}"
            else:
                formats.append(f"S{member.length}")
                continue
            formats.append(base if member.length is None else (base, (member.length,)))
        return np.dtype(
            {
                "names": list(self.fields),
                "formats": formats,
                "offsets": [member.offset for member in self.fields.values()],
                "itemsize": self.size,
            }
        )
