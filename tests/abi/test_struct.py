"""Laws of `Struct`: packing and unpacking are inverse, and bad values are named."""

from __future__ import annotations

import functools
import struct
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenlike.abi import export
from xenlike.abi.struct import Struct, Union, field
from xenlike.abi.types import Array, Bytes, Scalar, char16, s16, u8, u16, u32, u64
from xenlike.io.blk import BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifRequest, BlkifSegment


class Point(Struct, c="point"):
    """A nested structure."""

    x: s16 = field("left to right", unit="pixels")
    y: s16 = 7


class Either(Union, c="either"):
    """An integer or a point."""

    number: u64 = field()
    point: Point = field()


class Everything(Struct, c="everything", typedef="everything_t"):
    """One member of every kind."""

    small: u8 = field()
    big: u64 = field('the "big" one', default=5)
    name: char16 = field()
    point: Point = field()
    points: Annotated[tuple[Point, ...], Array(Point, 3)] = ()
    numbers: Annotated[tuple[int, ...], Array(u16, 3)] = ()
    either: Either = field()
    in_: u8 = field("a keyword in Python")


def structure_classes() -> list[type[Struct]]:
    return [
        item
        for module in export.modules()
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Struct) and item.__module__ == module.__name__
        and hasattr(item, "__layout__")
    ]  # fmt: skip


@functools.cache
def by_layout() -> dict[int, type[Struct]]:
    return {id(kind.__layout__): kind for kind in [*structure_classes(), *LOCAL]}


@functools.cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Generates any value of a structure class, or of a union by any of its members."""
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for member in kind.__layout__.fields.values():
        if member.nested is not None:
            element = values(by_layout()[id(member.nested)])
        elif member.scalar is not None:
            element = integers(member.scalar)
        else:
            strategies[member.name] = st.binary(max_size=member.length or 0)
            continue
        length = member.length
        strategies[member.name] = element if length is None else st.lists(element, max_size=min(length, 4)).map(tuple)
    if kind.__layout__.kind == "union":
        members = [item.map(functools.partial(make_union, kind, name)) for name, item in strategies.items()]
        return st.one_of(members)
    if kind is BlkifRequest:
        # Segments beyond the count are not unpacked.
        strategies["nr_segments"] = st.just(4)
    return st.builds(kind, **strategies)


def make_union(kind: Any, name: str, value: object) -> Any:
    return kind(**{name: value})


def integers(scalar: Scalar) -> st.SearchStrategy[int]:
    bits = 8 * scalar.size
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if scalar.signed else st.integers(0, (1 << bits) - 1)


LOCAL: list[type[Struct]] = [Point, Either, Everything]


@pytest.mark.parametrize("kind", [*structure_classes(), *LOCAL], ids=lambda kind: str(kind.__name__))
@settings(max_examples=20)
@given(data=st.data())
def test_unpack_inverts_pack(kind, data):
    value = data.draw(values(kind))
    packed = value.pack()
    assert len(packed) == kind.__layout__.size
    again = kind.unpack(packed)
    assert again.pack() == packed
    assert again == value
    buffer = bytearray(b"\xff" * (len(packed) + 16))
    value.pack_into(buffer, 8)
    assert buffer == b"\xff" * 8 + packed + b"\xff" * 8
    assert kind.unpack(memoryview(buffer), 8).pack() == packed
    assert [item.pack() for item in kind.unpack_many(packed + packed, 2)] == [packed, packed]


@given(st.binary(min_size=112, max_size=112))
def test_a_hostile_request_unpacks_to_at_most_eleven_segments(raw):
    request = BlkifRequest.unpack(raw)
    assert request.nr_segments == raw[1]
    assert len(request.seg) == min(request.nr_segments, BLKIF_MAX_SEGMENTS_PER_REQUEST)
    for index, segment in enumerate(request.seg):
        assert segment.pack()[:6] == raw[24 + 8 * index :][:6]


def test_missing_members_are_zero_or_their_default():
    value = Everything()
    assert value.big == 5
    assert value.point == Point(0, 7)
    assert value.point is not Everything().point
    assert (value.small, value.name, value.points, value.numbers, value.in_) == (0, b"", (), (), 0)
    assert Everything(1, 2, b"three") == Everything(small=1, big=2, name=b"three")


def test_padding_is_zero_and_short_arrays_are_filled():
    raw = Everything(small=255, numbers=(1,), points=(Point(1, 2),)).pack()
    layout = Everything.__layout__
    assert raw[1:8] == bytes(7)
    numbers = layout.fields["numbers"]
    assert struct.unpack_from("<3H", raw, numbers.offset) == (1, 0, 0)
    points = layout.fields["points"]
    assert raw[points.offset : points.offset + points.size] == Point(1, 2).pack() + 2 * Point().pack()


def test_equality_is_of_bytes_and_values_are_mutable_but_not_hashable():
    one, two = Everything(numbers=(0, 0, 0)), Everything()
    assert one == two
    two.small = 3
    assert one != two
    assert Point() != Either()
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    with pytest.raises(AttributeError):
        one.unknown = 1  # type: ignore[attr-defined]


def test_a_union_is_read_as_any_member():
    value = Either(point=Point(-1, 2))
    assert value.number == 0x0002FFFF
    value.number = 0x0005_0004
    assert value.point == Point(4, 5)
    assert Everything.unpack(Everything(either=value).pack()).either.point.y == 5
    with pytest.raises(TypeError, match="one member"):
        Either(number=1, point=Point())
    with pytest.raises(TypeError, match="no member wrong"):
        Either(wrong=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (Everything(small=256), ValueError, r"everything.small = 256 is not in 0..255"),
        (Everything(small=-1), ValueError, r"everything.small = -1"),
        (Point(x=40000), ValueError, r"point.x = 40000 is not in -32768..32767"),
        (Everything(small="one"), TypeError, r"everything.small must be an int, got 'one'"),  # type: ignore[arg-type]
        (Everything(name=b"x" * 17), ValueError, "name is 17 bytes, at most 16 fit"),
        (Everything(numbers=(1, 2, 3, 4)), ValueError, "numbers has 4 elements, at most 3 fit"),
        (BlkifRequest(seg=(BlkifSegment(),) * 12), ValueError, "seg has 12 elements, at most 11 fit"),
    ],
)
def test_a_value_that_does_not_fit_is_named(value, error, text):
    with pytest.raises(error, match=text):
        value.pack()


def test_a_short_buffer_is_an_error():
    for kind in (Everything, Either):
        with pytest.raises(ValueError, match=kind.__layout__.c_name):
            kind.unpack(bytes(kind.__layout__.size - 1))
        with pytest.raises(ValueError, match=kind.__layout__.c_name):
            kind().pack_into(bytearray(4))
        with pytest.raises(ValueError, match="2 of them need"):
            kind.unpack_many(bytes(2 * kind.__layout__.size - 1), 2)
    with pytest.raises(ValueError, match="point"):
        Point.unpack(bytes(8), 6)


def test_a_class_body_says_what_is_wrong_with_it():
    with pytest.raises(TypeError, match="has no C layout"):

        class Wrong(Struct):
            number: int = 0

    with pytest.raises(TypeError, match="cannot be extended"):

        class Longer(Point):
            z: s16 = 0

    with pytest.raises(TypeError, match="arrays hold"):

        class Nested(Struct):
            text: Annotated[tuple[bytes, ...], Array(Annotated[bytes, Bytes(4)], 2)] = ()


def test_names_of_the_place_of_definition_are_found():
    """Annotations are strings here, so names local to this function must be looked up in it."""

    class Inner(Struct):
        number: u32 = field()

    class Outer(Struct):
        inner: Inner = field()
        inners: Annotated[tuple[Inner, ...], Array(Inner, 2)] = ()

    assert Outer.__layout__.size == 12
    assert Outer.unpack(Outer(inners=(Inner(1), Inner(2))).pack()).inners[1].number == 2


def test_repr_and_match():
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)


def test_c_source_is_readable():
    text = Everything.__layout__.c_source()
    assert "struct everything {" in text
    assert '    uint64_t big;                /* the "big" one */' in text
    assert "    char name[16];" in text
    assert "    struct point points[3];" in text
    assert "    union either either;" in text
    assert "    uint8_t in;                  /* a keyword in Python */" in text
    assert "/* left to right [pixels] */" in Point.__layout__.c_source()
    assert Everything.__layout__.c_type == "everything_t"
