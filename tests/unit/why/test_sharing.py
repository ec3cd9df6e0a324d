"""What a frontend shares, and what is wrong with it: told whether the backend waits patiently or gave up."""

from __future__ import annotations

import pytest

from tests.unit.why.stuck import say
from xenlike.io.echo import ECHO
from xenlike.testing import MockBackend, MockFrontend
from xenlike.xenbus import XenbusState as S


@pytest.fixture
async def shared(mocks):
    """A frontend that has everything ready, and a patient backend; to be spoilt, and published by `publish`."""
    front, back = mocks
    await back.say(S.InitWait, {"ring-layout": "xen", "max-ring-page-order": "0"})
    _, nodes = front.share_ring(ECHO)
    return front, back, nodes


async def publish(shared: tuple[MockFrontend, MockBackend, dict[str, str]], **changes: str | None) -> None:
    front, _, nodes = shared
    for name, text in changes.items():
        nodes.pop(name.replace("_", "-"), None)
        if text is not None:
            nodes[name.replace("_", "-")] = text
    await front.say(S.Initialised, nodes)


@pytest.mark.parametrize("node", ["event-channel", "ring-ref"])
async def test_a_node_that_is_missing(shared, machine, node):
    await publish(shared, **{node: None})
    told = await say(machine, shared[0].device, "node-missing")
    assert told.sentence == f"guest waits: backend d4 is in InitWait because node {node} is missing"


async def test_a_node_that_is_missing_while_the_state_is_not_written_yet(shared, machine):
    front, _, nodes = shared
    await front.say(S.Initialising, {"ring-ref": nodes["ring-ref"]})
    told = await say(machine, front.device, "node-missing")
    assert told.sentence == "guest waits: backend d4 is in InitWait because node event-channel is missing"


async def test_all_nodes_that_are_missing_are_named(shared, machine):
    await publish(shared, event_channel=None, ring_ref=None)
    await say(machine, shared[0].device, "node-missing", "nodes ring-ref, event-channel are missing")


async def test_pages_of_a_large_ring_that_are_missing(shared, machine):
    machine.tree.write(f"{shared[1].path}/max-ring-page-order", "1")
    await publish(shared, ring_page_order="1", ring_ref=None, ring_ref0=shared[2]["ring-ref"])
    await say(machine, shared[0].device, "node-missing", "node ring-ref1 is missing")


@pytest.mark.parametrize("text", ["banana", "-1", "0x8", str(1 << 32), "9" * 40])
@pytest.mark.parametrize("node", ["event_channel", "ring_ref"])
async def test_a_node_that_is_no_number(shared, machine, node, text):
    await publish(shared, **{node: text})
    words = (f"backend d4 is in InitWait because node {node.replace('_', '-')} = '{text[:32]}' is not a number",)
    await say(machine, shared[0].device, "node-not-a-number", *words)


async def test_a_node_that_is_no_number_before_a_backend_that_gives_up(against_backend, machine):
    front = against_backend
    await front.hear(S.InitWait)
    _, nodes = front.share_ring(ECHO)
    await front.say(S.Initialised, {**nodes, "event-channel": "banana"})
    words = ("mock waits: backend d1 is in Closing because node event-channel = 'banana' is not a number",)
    told = await say(machine, front.device, "node-not-a-number", *words)
    assert "event-channel" in told.evidence.back.error


async def test_a_layout_that_was_not_offered(shared, machine):
    await publish(shared, ring_layout="cacheline")
    words = ("backend d4 is in InitWait because ring-layout = 'cacheline' was not offered: the backend knows xen",)
    await say(machine, shared[0].device, "layout-not-offered", *words)


async def test_a_ring_that_is_too_large(shared, machine):
    await publish(shared, ring_page_order="3")
    await say(machine, shared[0].device, "ring-too-large", "ring-page-order = 3 is more than the 0")


async def test_a_protocol_that_nobody_speaks(shared, machine):
    await publish(shared, protocol="x86_32-abi")
    await say(machine, shared[0].device, "protocol-unknown", "node protocol = 'x86_32-abi' is not 'x86_64-abi'")


async def test_a_grant_that_was_never_given(shared, machine):
    await publish(shared, ring_ref="99")
    await say(machine, shared[0].device, "grant-revoked", "grant 99 (ring-ref) of d3 is not given")


async def test_a_grant_that_was_revoked(shared, machine):
    await publish(shared)
    shared[0].domain.grants.revoke(int(shared[2]["ring-ref"]))
    told = await say(machine, shared[0].device, "grant-revoked", "(ring-ref) of d3 is not given, or was revoked")
    assert told.for_whom == "frontend d3"


async def test_a_grant_for_another_domain(shared, machine):
    domain = shared[0].domain
    gref = domain.grants.grant(domain.memory.alloc(1, 1).pfn, 1)
    await publish(shared, ring_ref=str(gref))
    await say(machine, shared[0].device, "grant-to-another", f"grant {gref} (ring-ref) is for d1, and not for d4")


async def test_a_grant_whose_memory_is_for_another_domain(shared, machine):
    domain = shared[0].domain
    gref = domain.grants.grant(domain.memory.alloc(1, 1).pfn, 4)
    await publish(shared, ring_ref=str(gref))
    await say(machine, shared[0].device, "grant-to-another", f"grant {gref} (ring-ref) is for d1, and not for d4")


async def test_a_grant_of_a_page_that_is_no_grantable_memory(shared, machine):
    gref = shared[0].domain.grants.grant(5, 4)
    await publish(shared, ring_ref=str(gref))
    await say(machine, shared[0].device, "grant-to-another", "names a page that can be granted to nobody")


async def test_a_port_that_was_closed(shared, machine):
    await publish(shared)
    shared[0].domain.events.channels[int(shared[2]["event-channel"])].close()
    await say(machine, shared[0].device, "port-closed", "event-channel 1 of d3 is closed")


async def test_a_port_for_another_domain(shared, machine):
    port = shared[0].domain.events.alloc_unbound(1).port
    await publish(shared, event_channel=str(port))
    await say(machine, shared[0].device, "port-of-another", f"event-channel {port} was made for d1, and not d4")


async def test_a_port_that_somebody_else_has_bound(shared, machine):
    port = shared[0].domain.events.alloc_unbound(1).port
    machine.domains[1].events.bind(3, port)
    await publish(shared, event_channel=str(port))
    await say(machine, shared[0].device, "port-of-another", f"event-channel {port} is bound to d1, and not d4")
