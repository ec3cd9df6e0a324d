"""The other half of a device, played by a test: states in any order, and a ring without manners.

peer = MockBackend(machine, device)         # no real backend is attached in `device.back`
await peer.say(XenbusState.InitWait)
await peer.hear(XenbusState.Initialised)
ring = await peer.connect(ECHO)
ring.rsp_prod += 1000                       # what will the frontend say?

or, as a script of `Say`, `Hear`, `Respond`, `Request` and `Hush` (`xenlike.testing.script`),

await peer.play([Say(InitWait), Hear(Initialised), Say(Connected), Hear(Connected), Respond(status=-1), Hush()])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from xenlike._core import SharedWord
from xenlike.abi import ring as layouts
from xenlike.abi.driver import Driver
from xenlike.abi.types import PAGE_SIZE
from xenlike.abi.xenbus import XenbusState
from xenlike.xenbus.registry import load_driver

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xenlike.abi.protocol import Protocol
    from xenlike.testing.fakedomain import FakeChannel, FakeDomain
    from xenlike.testing.loopback import Loopback, Plugged
    from xenlike.testing.script import Act


class RawRing:
    """A ring's shared memory, to be read and written without any rule.

    Args:
        page: the ring.
        protocol: tells the size of its slots.
        channel: the event channel beside it.
        layout: "xen" or "cacheline".
    """

    def __init__(self, page: memoryview, protocol: Protocol, channel: FakeChannel, layout: str = "xen") -> None:
        self.page = page
        self.channel = channel
        place = layouts.XEN if layout == "xen" else layouts.CACHELINE
        self.layout = place(protocol.entry_size)
        self.size = layouts.ring_size(self.layout, len(page))
        self._protocol = protocol
        self._words = {
            name: SharedWord(page, getattr(self.layout, name))
            for name in ("req_prod", "req_event", "rsp_prod", "rsp_event")
        }

    def _get(self, name: str) -> int:
        return self._words[name].get()

    def _set(self, name: str, value: int) -> None:
        self._words[name].set(value & 0xFFFF_FFFF)

    req_prod = property(lambda self: self._get("req_prod"), lambda self, value: self._set("req_prod", value))
    req_event = property(lambda self: self._get("req_event"), lambda self, value: self._set("req_event", value))
    rsp_prod = property(lambda self: self._get("rsp_prod"), lambda self, value: self._set("rsp_prod", value))
    rsp_event = property(lambda self: self._get("rsp_event"), lambda self, value: self._set("rsp_event", value))

    def read(self, index: int, size: int) -> bytes:
        """Returns the first bytes of the slot of an index."""
        at = self._at(index)
        return bytes(self.page[at : at + size])

    def write(self, index: int, entry: bytes) -> None:
        """Writes to the slot of an index."""
        at = self._at(index)
        self.page[at : at + len(entry)] = entry

    def _at(self, index: int) -> int:
        return self.layout.slots + (index & (self.size - 1)) * self.layout.stride

    def close(self) -> None:
        """Lets go of the page."""
        for word in self._words.values():
            word.close()


class MockPeer:
    """What both halves can do; use it through `MockBackend` and `MockFrontend`.

    Attributes:
        path, otherend: the directories of this half and of the other one.
        domain: the domain in which this half would run.
    """

    def __init__(self, machine: Loopback, device: Plugged, own: str, other: str, domain: FakeDomain) -> None:
        self.machine = machine
        self.device = device
        self.path = own
        self.otherend = other
        self.domain = domain
        self._ring: RawRing | None = None

    @property
    def protocol(self) -> Protocol:
        """The device's protocol, as its driver declares it."""
        type = self.device.front_path.split("/")[-2]
        drivers = self.machine.frontend_drivers | self.machine.backend_drivers
        driver = drivers.get(type)
        return (driver if isinstance(driver, Driver) else load_driver(type)).protocol

    @property
    def ring(self) -> RawRing:
        """The ring that it shares with the other half.

        Raises:
            RuntimeError: there is none yet.
        """
        if self._ring is None:
            raise RuntimeError(f"{type(self).__name__} has no ring yet: let it go through the handshake first")
        return self._ring

    @property
    def pending(self) -> int:
        """Requests in the ring that have no response yet."""
        ring = self.ring
        return (ring._get("req_prod") - ring._get("rsp_prod")) & 0xFFFF_FFFF

    async def play(self, script: Iterable[Act]) -> None:
        """Plays a script, one line after the other."""
        for line in script:
            await line.act(self)

    def nodes_for(self, state: XenbusState | int | str) -> dict[str, str]:
        """Returns the nodes that go with a state that a script says; takes or shares a ring if that is the time."""
        return {}

    async def say(self, state: XenbusState | int | str, nodes: Mapping[str, str] | None = None) -> None:
        """Writes nodes, and then the state, which may be any text."""
        for name, value in (nodes or {}).items():
            self.machine.tree.write(f"{self.path}/{name}", value)
        text = state if isinstance(state, str) else str(int(state))
        self.machine.tree.write(f"{self.path}/state", text)
        await trio.lowlevel.checkpoint()

    async def hear(self, *states: XenbusState) -> XenbusState:
        """Waits until the other half has one of these states, and returns it."""
        await self.machine.wait_until(lambda: self.heard() in states)
        return self.heard()

    def heard(self) -> XenbusState:
        """Returns the state of the other half."""
        return XenbusState(int(self.machine.tree.nodes.get(f"{self.otherend}/state", "0")))

    def node(self, name: str) -> str:
        """Returns a node of the other half."""
        return self._nodes[f"{self.otherend}/{name}"]

    @property
    def _nodes(self) -> dict[str, str]:
        return self.machine.tree.nodes


class MockBackend(MockPeer):
    """Plays a backend, in a domain that runs none."""

    def __init__(self, machine: Loopback, device: Plugged) -> None:
        super().__init__(machine, device, device.back_path, device.front_path, device.back)

    def nodes_for(self, state: XenbusState | int | str) -> dict[str, str]:
        """As `MockPeer.nodes_for`: whoever says Connected takes the ring that the frontend shares."""
        if state == XenbusState.Connected and self._ring is None and f"{self.otherend}/ring-ref" in self._nodes:
            self.take_ring(self.protocol)
        elif state == XenbusState.InitWait:
            self._ring = None
        return {}

    async def connect(self, protocol: Protocol, nodes: Mapping[str, str] | None = None) -> RawRing:
        """Goes through an honest handshake; the frontend is Connected when it returns."""
        await self.say(XenbusState.InitWait, nodes)
        await self.hear(XenbusState.Initialised)
        ring = self.take_ring(protocol)
        await self.say(XenbusState.Connected, nodes)
        await self.hear(XenbusState.Connected)
        return ring

    def take_ring(self, protocol: Protocol) -> RawRing:
        """Maps the frontend's ring and binds its port."""
        peer = self.device.front.domid
        mapping = self.domain.grants.map(peer, [int(self.node("ring-ref"))])
        channel = self.domain.events.bind(peer, int(self.node("event-channel")))
        self._ring = RawRing(mapping.pages[0], protocol, channel)
        return self._ring


class MockFrontend(MockPeer):
    """Plays a frontend, in a domain that runs none."""

    def __init__(self, machine: Loopback, device: Plugged) -> None:
        super().__init__(machine, device, device.front_path, device.back_path, device.front)

    def nodes_for(self, state: XenbusState | int | str) -> dict[str, str]:
        """As `MockPeer.nodes_for`: whoever says Initialised, or Connected at once, shares a ring."""
        if state in (XenbusState.Initialised, XenbusState.Connected) and self._ring is None:
            return self.share_ring(self.protocol)[1]
        if state == XenbusState.Initialising:
            self._ring = None
        return {}

    def share_ring(self, protocol: Protocol, first: int = 0) -> tuple[RawRing, dict[str, str]]:
        """Makes a ring whose indices begin at `first`; returns it and the nodes that tell of it."""
        peer = self.device.back.domid
        window = self.domain.memory.alloc(peer, 1)
        gref = self.domain.grants.grant(window.pfn, peer)
        ring = self._ring = RawRing(window.buffer[:PAGE_SIZE], protocol, self.domain.events.alloc_unbound(peer))
        ring.req_prod = ring.rsp_prod = first
        ring.req_event = ring.rsp_event = first + 1
        return ring, {"ring-ref": str(gref), "event-channel": str(ring.channel.port)}

    async def connect(self, protocol: Protocol, nodes: Mapping[str, str] | None = None, first: int = 0) -> RawRing:
        """Goes through an honest handshake; the backend is Connected when it returns."""
        await self.hear(XenbusState.InitWait)
        ring, ours = self.share_ring(protocol, first)
        await self.say(XenbusState.Initialised, {**ours, **(nodes or {})})
        await self.hear(XenbusState.Connected)
        await self.say(XenbusState.Connected)
        return ring
