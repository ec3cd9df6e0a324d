"""Laws of protocols, nodes and ring layouts."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike.abi.protocol import Node, Protocol
from xenlike.abi.ring import CACHELINE, XEN, ring_size
from xenlike.abi.struct import Struct, field
from xenlike.abi.types import Array, Bytes, s16, u8, u16, u32, u64
from xenlike.io.blk import BLK
from xenlike.io.blk import DRIVER as VBD
from xenlike.io.echo import DRIVER as ECHO_DRIVER
from xenlike.io.echo import ECHO


class Twelve(Struct):
    """Aligned to 4 bytes."""

    a: u32 = field()
    b: u32 = field()
    c: u32 = field()


class Eight(Struct):
    """Aligned to 8 bytes."""

    a: u64 = field()


def test_a_slot_holds_every_message_at_its_alignment():
    protocol = Protocol("mixed", (Eight, Twelve), Eight)
    assert (protocol.request_size, protocol.response_size, protocol.entry_size) == (12, 8, 16)
    assert (BLK.request_size, BLK.response_size, BLK.entry_size) == (112, 16, 112)
    assert (ECHO.request_size, ECHO.response_size) == (16, 16)


def test_nodes_are_found_by_name_and_side():
    assert BLK.node("feature-persistent", "backend").side == "backend"
    assert BLK.node("feature-persistent", "frontend").side == "frontend"
    assert ECHO.node("max-size", "backend").default == 4096
    with pytest.raises(KeyError, match="no backend node nothing"):
        BLK.node("nothing", "backend")


def test_drivers_are_named_by_strings():
    for driver, kind in ((VBD, "vbd"), (ECHO_DRIVER, "echo")):
        assert driver.type == kind
        for half, side in ((driver.frontend, "frontends"), (driver.backend, "backends")):
            module, _, name = half.partition(":")
            assert module.startswith(f"xenlike.{side}.")
            assert name.isidentifier()


@given(st.integers(0, 2**32 - 1))
def test_numbers_go_to_the_store_and_back(number):
    node = Node("n", u32)
    assert node.parse(node.format(number)) == number


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "1_0", "0x10", "1.0", "٣", "--1", "9" * 21, "one"])
def test_what_is_no_number_is_an_error(text):
    with pytest.raises(ValueError, match="decimal"):
        Node("n", u32).parse(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(u8, "256"), (u8, "-1"), (s16, "32768"), (s16, "-32769"), (bool, "2"), (int, "18446744073709551616")],
)
def test_a_number_out_of_range_is_an_error(kind, text):
    with pytest.raises(ValueError, match=r"n = -?\d+ is not in"):
        Node("n", kind).parse(text)


def test_booleans_and_texts():
    assert Node("n", bool).parse("1") is True
    assert Node("n", bool).parse("0") is False
    assert Node("n", bool).format(True) == "1"
    assert Node("n", str).parse("any text") == "any text"
    assert Node("n", str).format("any text") == "any text"
    assert Node("n", int).parse("-5") == -5


@given(st.integers(1, 4000), st.integers(0, 6))
def test_a_ring_has_the_most_slots_that_fit(entry, order):
    nbytes = 4096 << order
    for layout in (XEN(entry), CACHELINE(entry)):
        slots = ring_size(layout, nbytes) if layout.slots + layout.stride <= nbytes else 0
        assert slots & (slots - 1) == 0
        assert layout.slots + slots * layout.stride <= nbytes
        assert layout.slots + max(2 * slots, 1) * layout.stride > nbytes


def test_a_ring_without_a_slot_is_an_error():
    with pytest.raises(ValueError, match="no room for a slot of 4096 bytes"):
        ring_size(XEN(4096), 4096)


def test_every_word_of_a_cacheline_ring_has_lines_of_its_own():
    layout = CACHELINE(56)
    words = [layout.req_prod, layout.req_event, layout.rsp_prod, layout.rsp_event]
    assert len({word // 128 for word in [*words, layout.slots]}) == 5
    assert layout.slots % 128 == 0
    assert layout.stride % 64 == 0


@given(st.integers(1, 4096))
def test_an_entry_of_a_cacheline_ring_lies_in_no_more_lines_than_it_must(entry):
    layout = CACHELINE(entry)
    assert entry <= layout.stride < 2 * max(entry, 64)
    for slot in range(64):
        first = layout.slots + slot * layout.stride
        assert (first + entry - 1) // 64 - first // 64 == (entry - 1) // 64


def test_a_message_larger_than_a_page_is_an_error():
    class Large(Struct, c="large"):
        id: u64 = field()
        data: Annotated[bytes, Bytes(5000)] = field()

    with pytest.raises(ValueError, match="big: a message of 5008 bytes does not fit into a ring of one page"):
        Protocol("big", Large, Large)


def test_a_limit_is_a_number_or_the_name_of_a_node():
    class Part(Struct, c="part"):
        size: u16 = field(limit="most")

    class Whole(Struct, c="whole"):
        id: u64 = field()
        parts: Annotated[tuple[Part, ...], Array(Part, 2)] = ()
        count: u8 = field(limit=2)

    members = Whole.__layout__.fields
    assert members["count"].limit == 2
    assert members["id"].limit is None
    assert members["parts"].nested is not None
    assert members["parts"].nested.fields["size"].limit == "most"
