"""What a ring may be made of, and where its parts lie."""

from __future__ import annotations

import mmap
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ring.pages import FIRST_INDICES, U32, Page
from xenlike.abi import ring as abi_ring
from xenlike.ring import LAYOUTS, XEN, BackRing, Consumer, FrontRing, Producer, preferred, slots, stride

ABI = {"xen": abi_ring.XEN, "cacheline": abi_ring.CACHELINE}


@given(st.sampled_from(LAYOUTS), st.integers(0, 6), st.integers(1, 4096))
def test_the_core_and_the_abi_agree_on_slots_and_strides(layout: str, order: int, entry_size: int) -> None:
    declared = ABI[layout](entry_size)
    assert stride(layout, entry_size) == declared.stride
    try:
        expected = abi_ring.ring_size(declared, 4096 << order)
    except ValueError:
        expected = 0
    assert slots(layout, 4096 << order, entry_size) == expected


def test_blkif_has_the_slots_that_xen_gives_it() -> None:
    assert slots(XEN, 4096, 112) == 32
    assert FrontRing(bytearray(4096), XEN, 112, 16).size == 32
    assert FrontRing(bytearray(4096 << 4), XEN, 112, 16).size == 512


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", FIRST_INDICES)
def test_a_new_ring_has_its_header_set_and_nothing_of_the_past(layout: str, first: int) -> None:
    page = Page(memoryview(bytearray(b"\xaa" * 4096)), layout)
    FrontRing(page.memory, layout, 112, 16, first_index=first)
    assert page["req_prod"] == page["rsp_prod"] == first
    assert page["req_event"] == page["rsp_event"] == (first + 1) % U32
    for name in ("req_prod", "rsp_prod", "req_event", "rsp_event"):
        page[name] = 0
    assert not any(page.memory)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_entry_size_widens_the_stride(layout: str) -> None:
    page = Page(memoryview(bytearray(4096)), layout)
    front = FrontRing(page.memory, layout, 12, 8, entry_size=16)
    front.push(b"a" * 12 + b"b" * 12)
    assert page.slot(1, front.size, stride(layout, 16), 12) == b"b" * 12


BAD: list[tuple[dict[str, Any], str]] = [
    ({"buffer": bytearray(4095)}, "4096 << order"),
    ({"buffer": bytearray(0)}, "4096 << order"),
    ({"buffer": bytearray(3 * 4096)}, "4096 << order"),
    ({"buffer": bytearray(4096 << 11)}, "4096 << order"),
    ({"buffer": bytes(4096)}, "writable"),
    ({"buffer": memoryview(bytearray(8192))[::2]}, "contiguous"),
    ({"buffer": 7}, "not int"),
    ({"layout": "Xen"}, "'Xen' is not one of xen, cacheline"),
    ({"request_size": 0}, "request_size is 0"),
    ({"request_size": 4097}, "request_size is 4097"),
    ({"response_size": -1}, "response_size is -1"),
    ({"request_size": 4096}, "no room for an entry of 4096"),
    ({"entry_size": 63}, "entry_size is 63"),
    ({"entry_size": 5000}, "entry_size is 5000"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_ring_of_nonsense_is_refused_with_the_reason(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"buffer": bytearray(4096), "layout": "xen", "request_size": 64, "response_size": 16}
    for make in (FrontRing, BackRing):
        with pytest.raises(ValueError, match=words):
            make(**(arguments | change))


@pytest.mark.parametrize("first", [-1, U32])
def test_the_first_index_is_a_u32(first: int) -> None:
    with pytest.raises(ValueError, match="first_index"):
        FrontRing(bytearray(4096), XEN, 64, 64, first_index=first)
    with pytest.raises(ValueError, match="first_index"):
        Producer(bytearray(4096), 64, first_index=first)


@pytest.mark.parametrize("make", [Producer, Consumer])
def test_one_way_rings_refuse_nonsense_too(make: type[Producer | Consumer]) -> None:
    with pytest.raises(ValueError, match="4096 << order"):
        make(bytearray(100), 64)
    with pytest.raises(ValueError, match="entry_size is 0"):
        make(bytearray(4096), 0)
    with pytest.raises(ValueError, match="'tag' is not one of"):
        make(bytearray(4096), 64, "tag")


def test_a_misaligned_page_is_refused() -> None:
    with pytest.raises(ValueError, match="4-byte aligned"):
        FrontRing(memoryview(bytearray(4097))[1:], XEN, 64, 64)


def test_rings_live_in_mapped_files_and_let_them_go() -> None:
    """Any writable buffer will do; while a ring is open its memory cannot be unmapped."""
    page = mmap.mmap(-1, 4096)
    front = FrontRing(page, XEN, 64, 64)
    back = BackRing(memoryview(page), XEN, 64, 64)
    front.push(b"x" * 64)
    out = bytearray(64)
    assert back.pop(out) == 1
    assert out == b"x" * 64
    assert struct.unpack_from("<I", page)[0] == 1
    with pytest.raises(BufferError):
        page.close()
    for end in (front, back):
        end.close()
        end.close()
        assert end.closed
        assert not end.broken
        assert not end.kick()
        with pytest.raises(ValueError, match="closed"):
            end.pop(out)
        with pytest.raises(ValueError, match="closed"):
            end.push(out)
    page.close()


@given(st.integers(0, 6), st.integers(1, 3500))
def test_nobody_gets_fewer_slots_than_xens_layout_has(order: int, entry_size: int) -> None:
    nbytes = 4096 << order
    best = preferred(nbytes, entry_size)
    assert best[-1] == XEN
    assert slots(best[0], nbytes, entry_size) >= slots(XEN, nbytes, entry_size)
    assert preferred(4096, 16)[0] == "cacheline"
    assert preferred(4096, 112) == (XEN,)
