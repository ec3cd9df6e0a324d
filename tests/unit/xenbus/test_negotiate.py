"""What the other end wrote is a value in its range, the default, or a ProtocolError; never anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenlike.abi.protocol import Node
from xenlike.abi.types import u8, u16, u32, u64
from xenlike.errors import ProtocolError
from xenlike.io.blk import BLK
from xenlike.io.echo import ECHO
from xenlike.xenbus.negotiate import (
    RingChoice,
    accept_ring,
    backend_nodes,
    choose_ring,
    format_nodes,
    frontend_nodes,
    parse_domid,
    parse_features,
    parse_gref,
    parse_node,
    parse_port,
    ring_nodes,
    ring_ref_names,
)

ORDER = Node("max-ring-page-order", u32, "backend", 0)


@pytest.mark.parametrize("text", [None, ""])
def test_missing_and_empty_mean_the_default(text):
    assert parse_node(ORDER, text) == 0
    assert parse_features(ECHO, "backend", {"max-size": text}) == {"max-size": 4096}
    with pytest.raises(ProtocolError, match="sectors is missing"):
        parse_features(BLK, "backend", {"sectors": text})
    assert "sectors" not in parse_features(BLK, "backend", {"sectors": text}, partial=True)


@given(st.text(max_size=40), st.sampled_from([u8, u16, u32, u64]))
def test_a_number_is_in_its_range_or_refused(text, kind):
    node = Node("n", kind, "backend", 0)
    try:
        value = parse_node(node, text)
    except ProtocolError:
        return
    assert isinstance(value, int)
    assert 0 <= value < 1 << 64
    assert text in ("", str(value)) or text.lstrip("0") in ("", str(value))


@pytest.mark.parametrize("text", ["-1", "65536", "1_0", "0x10", "٣", "1.0", " 1", "nan", "9" * 4000])
def test_wrong_numbers_are_refused_with_a_short_message(text):
    with pytest.raises(ProtocolError) as caught:
        parse_node(Node("max-size", u16, "backend", 0), text, 3)
    assert caught.value.domid == 3
    assert len(str(caught.value)) < 300


def test_the_frontend_takes_the_first_layout_it_likes_of_those_offered():
    raw = {"ring-layout": "xen cacheline", "max-ring-page-order": "2"}
    assert choose_ring(raw, ("cacheline", "xen"), 1) == RingChoice("cacheline", 1)
    assert choose_ring(raw, ("xen",), 4) == RingChoice("xen", 2)
    assert choose_ring({}, ("cacheline",), 3) == RingChoice("xen", 0)
    assert choose_ring({"ring-layout": "", "max-ring-page-order": ""}, ("cacheline",), 1) == RingChoice("xen", 0)
    # A layout we never heard of is not taken, even if both like it.
    assert choose_ring({"ring-layout": "tag"}, ("tag",), 0) == RingChoice("xen", 0)


def test_a_huge_offer_does_not_make_a_huge_ring():
    assert choose_ring({"max-ring-page-order": str((1 << 32) - 1)}, ("xen",), 100).page_order == 4
    with pytest.raises(ProtocolError):
        choose_ring({"max-ring-page-order": str(1 << 32)}, ("xen",), 1)


@given(
    st.dictionaries(
        st.sampled_from(["ring-layout", "ring-page-order", "protocol", "ring-ref", "ring-ref0"]),
        st.one_of(st.none(), st.text(max_size=10), st.integers(-5, 1 << 33).map(str)),
    )
)
def test_the_backend_accepts_only_what_it_offered(raw):
    try:
        choice = accept_ring(raw, ("xen", "cacheline"), 2, 5)
    except ProtocolError:
        return
    assert choice.layout in ("xen", "cacheline")
    assert 0 <= choice.page_order <= 2
    assert 1 <= len(ring_ref_names(choice, raw)) <= 4


def test_what_a_frontend_writes_a_backend_reads():
    for choice, grefs in ((RingChoice("xen", 0), [9]), (RingChoice("cacheline", 2), [9, 8, 7, 6])):
        raw = ring_nodes(choice, grefs, 17)
        assert accept_ring(raw, ("xen", "cacheline"), 4) == choice
        assert [parse_gref(name, raw[name]) for name in ring_ref_names(choice, raw)] == grefs
        assert parse_port(raw["event-channel"]) == 17


def test_one_page_may_be_called_ring_ref0():
    assert ring_ref_names(RingChoice("xen", 0), {"ring-ref0": "4"}) == ("ring-ref0",)
    assert ring_ref_names(RingChoice("xen", 0), {"ring-ref": "4", "ring-ref0": "5"}) == ("ring-ref",)
    assert ring_ref_names(RingChoice("xen", 0), {}) == ("ring-ref",)


def test_another_abi_is_refused():
    with pytest.raises(ProtocolError, match="x86_32-abi"):
        accept_ring({"protocol": "x86_32-abi"}, ("xen",), 0)


def test_grefs_ports_and_domids_must_be_there_and_be_numbers():
    for parse in (lambda text: parse_gref("ring-ref", text), parse_port, lambda text: parse_domid("backend-id", text)):
        for text in (None, "", "x", "-1", str(1 << 32)):
            with pytest.raises(ProtocolError):
                parse(text)
    with pytest.raises(ProtocolError, match="no"):
        parse_domid("backend-id", str(0x7FF0))  # DOMID_SELF


def test_nodes_that_ring_and_protocol_both_name_are_read_once():
    for names in (backend_nodes(BLK), frontend_nodes(BLK), backend_nodes(ECHO), frontend_nodes(ECHO)):
        assert len(names) == len(set(names))


def test_what_a_driver_writes_fits_its_protocol():
    assert format_nodes(ECHO, "backend", {"max-size": 100, "mine": True}) == {"max-size": "100", "mine": "1"}
    with pytest.raises(ValueError, match="max-size"):
        format_nodes(ECHO, "backend", {"max-size": 1 << 16})
