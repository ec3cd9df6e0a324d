"""Laws of scripted peers: they do what their script says, line by line."""

from __future__ import annotations

import pytest
import trio

from xenlike.errors import ProtocolError, RequestFailed
from xenlike.io.echo import EchoRequest, EchoResponse
from xenlike.testing import Hear, Hush, Loopback, MockBackend, MockFrontend, Request, Respond, Say
from xenlike.xenbus import XenbusState as S

MEET = [Say(S.InitWait, {"max-size": "100"}), Hear(S.Initialised), Say(S.Connected), Hear(S.Connected)]


async def backend(machine):
    driver = await machine.add_domain("mock", buses=False)
    return MockBackend(machine, machine.plug("echo", driver=driver))


async def frontend(machine):
    guest = await machine.add_domain("mock", buses=False)
    return MockFrontend(machine, machine.plug("echo", guest=guest))


async def test_a_backend_plays_a_whole_life():
    async with Loopback() as machine:
        peer = await backend(machine)
        errors = []

        async def ask():
            with pytest.raises(RequestFailed) as caught:
                await peer.device.frontend.upper(b"hello")
            errors.append(caught.value.status)

        await peer.play(MEET)
        assert peer.device.frontend.max_size == 100
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await peer.play([Respond(status=-7)])
        assert errors == [-7]
        await peer.play([Say(S.Closing), Hear(S.Closed), Say(S.Closed), Hush()])


async def test_answers_can_be_made_of_requests():
    async with Loopback() as machine:
        peer = await backend(machine)
        await peer.play(MEET)
        asked = []

        def answer(entry):
            asked.append(EchoRequest.unpack(entry).size)
            return EchoResponse(status=0)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(peer.device.frontend.upper, b"four")
            await peer.play([Respond(3, answer)])
        assert asked == [4, 4, 4]


async def test_an_id_can_be_wrong():
    async with Loopback() as machine:
        peer = await backend(machine)
        await peer.play(MEET)

        async def ask():
            with pytest.raises(ProtocolError, match="id 77, which is not in flight"):
                await peer.device.frontend.upper(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await peer.play([Respond(id=77), Hear(S.Closing, S.Closed)])


async def test_a_frontend_plays_a_whole_life():
    async with Loopback() as machine:
        peer = await frontend(machine)
        await peer.play([Hear(S.InitWait), Say(S.Initialised), Hear(S.Connected), Say(S.Connected)])
        await peer.play([Request(EchoRequest(id=5, gref=4000, size=4097)), Hush()])
        response = EchoResponse.unpack(peer.ring.read(0, EchoResponse.__layout__.size))
        assert (response.id, response.status) == (5, -1)
        await peer.play([Say(S.Closed), Hear(S.Closed), Say(S.Initialising), Hear(S.InitWait)])
        # It begins again, with another ring.
        await peer.play([Say(S.Initialised), Hear(S.Connected)])
        assert peer.ring.req_prod == 0


async def test_what_a_script_overrides_is_said_so():
    async with Loopback() as machine:
        peer = await frontend(machine)
        await peer.play([Hear(S.InitWait), Say(S.Initialised, {"ring-ref": "4000"}), Hear(S.Closing)])


async def test_there_is_no_ring_before_the_handshake():
    async with Loopback() as machine:
        with pytest.raises(RuntimeError, match="MockBackend has no ring yet"):
            await (await backend(machine)).play([Respond()])


def test_lines_read_as_they_were_written():
    script = [Say(S.InitWait, {"a": "1"}), Say("9"), Hear(S.Closing, S.Closed), Respond(2, status=-1), Hush()]
    text = "[Say(InitWait, {'a': '1'}), Say('9'), Hear(Closing, Closed), Respond(2, status=-1), Hush()]"
    assert repr(script) == text
