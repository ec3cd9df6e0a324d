"""Collects evidence from a running machine: as domain 0, which may read everybody's store nodes and recorders."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import trio

from xenlike.abi import event_channel as ev
from xenlike.abi.grant_table import GTF_permit_access, GTF_type_mask
from xenlike.abi.xen import DOMID_INVALID
from xenlike.errors import HypercallError, NoEntry
from xenlike.toolstack.device_names import device_name, list_devices, match_device
from xenlike.toolstack.devices import DOMAIN_0
from xenlike.toolstack.nodes import Attachment, home
from xenlike.toolstack.tracing import Protocols
from xenlike.toolstack.why.collect import make_end, make_evidence
from xenlike.toolstack.why.domains import Domains
from xenlike.toolstack.why.evidence import End, Evidence, GrantFacts, PortFacts, QueueFacts, Side
from xenlike.toolstack.why.explain import explain
from xenlike.toolstack.why.recorded import Recorded, find_queue, find_stream

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.toolstack.console_log import ConsoleLog
    from xenlike.toolstack.guest import Guest
    from xenlike.toolstack.why.rule import Explanation

STORE_PATIENCE_S = 2.0
"""A store that does not answer for so long is explained instead."""
WATCH_S = 0.1
"""How long devices are looked at: one that answers a request in this time is moving."""
_SETTLE_S = 0.02
_ATTEMPTS = 3
_STATUS = {
    ev.EVTCHNSTAT_closed: "closed",
    ev.EVTCHNSTAT_unbound: "unbound",
    ev.EVTCHNSTAT_interdomain: "interdomain",
    ev.EVTCHNSTAT_virq: "bound to a virtual interrupt",
}

Queues = tuple[QueueFacts | None, ...]
"""Of one device: the front's and the back's end of its ring, and of its stream."""


class Inspector:
    """Explains the devices of one machine.

    Args:
        domain0: whose store, hypercalls and recorder are used.
        guests: the machine's domains by name.
        console: has their last words.
    """

    def __init__(self, domain0: Domain, guests: Mapping[str, Guest], console: ConsoleLog) -> None:
        self._domain0 = domain0
        self._guests = guests
        self._console = console

    async def why(self, device: str = "") -> list[Explanation]:
        """Explains one device, or all.

        Args:
            device: as `xenlike.toolstack.device_names` says; empty for all.

        Raises:
            NoSuchDevice: there is none of that name.
            ConfigError: several have it.
        """
        domains = self._domains()
        with trio.move_on_after(STORE_PATIENCE_S) as scope:
            devices = self._wanted(device, await self._devices(), domains)
        if scope.cancelled_caught:
            devices = self._wanted(device, self._described(domains), domains)
            return [explain(self._without_store(one, domains)) for one in devices]
        memories = self._recorders(devices)
        before = [_queues(memories, one) for one in devices]
        await trio.sleep(WATCH_S)
        recorded = Recorded(memories, self._domain0.recorder.memory, self._protocols())
        return [await self._explain(one, then, recorded) for one, then in zip(devices, before, strict=True)]

    def _domains(self) -> Domains:
        return Domains(self._domain0.hypercalls, self._guests, self._console)

    # -- which devices -----------------------------------------------------------------------------

    def _wanted(self, device: str, devices: list[Attachment], domains: Domains) -> list[Attachment]:
        return [match_device(device, devices, domains.names)] if device else devices

    async def _devices(self) -> list[Attachment]:
        """Returns the devices of the store: those of guests, and what is left of others at their backends."""
        store = self._domain0.store
        domids = sorted(int(name) for name in await store.ls("/local/domain") if name.isdecimal())
        devices = await list_devices(store, domids)
        known = {(device.type, device.id, device.front) for device in devices}
        for back in domids:
            for type in await self._ls(f"{home(back)}/backend"):
                for front in await self._ls(f"{home(back)}/backend/{type}"):
                    for id in await self._ls(f"{home(back)}/backend/{type}/{front}"):
                        if front.isdecimal() and id.isdecimal() and (type, int(id), int(front)) not in known:
                            devices.append(Attachment(type, int(id), int(front), back))
        return devices

    async def _ls(self, path: str) -> list[str]:
        try:
            return await self._domain0.store.ls(path)
        except NoEntry:
            return []

    def _described(self, domains: Domains) -> list[Attachment]:
        """Returns the devices as the machine's description has them, for want of a store."""
        by_name = {name: domid for domid, name in domains.names.items()} | {DOMAIN_0: 0}
        return [
            Attachment(device.type, device.id, guest.domid, by_name.get(device.backend, -1))
            for guest in self._guests.values()
            if guest.is_running
            for device in guest.spec.devices
        ]

    def _without_store(self, device: Attachment, domains: Domains) -> Evidence:
        front = End("frontend", domains.facts(device.front), device.frontend)
        back = End("backend", domains.facts(device.back), device.backend)
        return Evidence(device_name(device, domains.names), device.type, front, back, store=False)

    # -- one device --------------------------------------------------------------------------------

    async def _explain(self, device: Attachment, then: Queues, recorded: Recorded) -> Explanation:
        for _ in range(_ATTEMPTS):
            with trio.move_on_after(STORE_PATIENCE_S) as scope:
                evidence = await self._look(device, recorded)
            if scope.cancelled_caught:
                return explain(self._without_store(device, self._domains()))
            now = (evidence.front.queue, evidence.back.queue, evidence.front.stream, evidence.back.stream)
            answered, streamed = _popped(then[0], now[0]) or _pushed(then[1], now[1]), _streamed(then, now)
            if answered or streamed:
                moving = {"answered": answered, "streamed": streamed, "watched_s": WATCH_S}
                return explain(msgspec.structs.replace(evidence, **moving))
            told = explain(evidence)
            if told.healthy:
                return told
            # Both ends cannot be read at one moment: what is in between is no reason to worry anybody.
            await trio.sleep(_SETTLE_S)
            if not _moved(now, _queues(recorded.memories, device)):
                break
        return told

    async def _look(self, device: Attachment, recorded: Recorded) -> Evidence:
        domains = self._domains()
        front = await self._end("frontend", device.frontend, device.front, domains, "", recorded)
        back = await self._end("backend", device.backend, device.back, domains, self._backend_name(device), recorded)
        protocol = self._protocols().of(f"device/{device.type}/{device.id}")
        name = device_name(device, domains.names)
        return make_evidence(name, device.type, front, back, protocol, recorded, self._grant, self._port)

    async def _end(self, side: Side, path: str, domid: int, domains: Domains, name: str, recorded: Recorded) -> End:
        names = await self._ls(path)
        nodename = path.removeprefix(f"{home(domid)}/")
        wanted = [*(f"{path}/{node}" for node in names), f"{home(domid)}/error/{nodename}/error"]
        *texts, error = await self._domain0.store.read_many(wanted)
        nodes = {node: text for node, text in zip(names, texts, strict=True) if text is not None}
        return make_end(side, path, domains.facts(domid, name), nodes, error or "", recorded)

    def _backend_name(self, device: Attachment) -> str:
        """Returns the name of a device's backend as it was described: a domid does not outlive its domain."""
        for guest in self._guests.values():
            if guest.is_running and guest.domid == device.front:
                for known in guest.spec.devices:
                    if (known.type, known.id) == (device.type, device.id):
                        return known.backend
        return ""

    def _protocols(self) -> Protocols:
        """Returns the protocols that devices speak, those of drivers that a program brought for itself too."""
        drivers = (driver for guest in self._guests.values() for driver in guest.spec.drivers.values())
        return Protocols({driver.type: driver.frontend for driver in drivers})

    # -- hypercalls --------------------------------------------------------------------------------

    def _recorders(self, devices: Sequence[Attachment]) -> dict[int, memoryview]:
        memories = {0: self._domain0.recorder.memory}
        for domid in {domid for device in devices for domid in (device.front, device.back)} - {0}:
            # It may be gone, and the host out of descriptors: then there is so much less to see.
            with suppress(HypercallError, OSError):
                memories[domid] = self._domain0.hypercalls.recorder_memory(domid)
        return memories

    def _grant(self, domid: int, node: str, ref: int) -> GrantFacts | None:
        try:
            told = self._domain0.hypercalls.grant_status(ref, domid)
        except HypercallError as error:
            return GrantFacts(node, ref, given=False) if error.errno == errno.EINVAL else None
        window = None if told.window_peer == DOMID_INVALID else told.window_peer
        given = told.flags & GTF_type_mask == GTF_permit_access
        return GrantFacts(node, ref, given, told.peer, window, told.nr_mapped)

    def _port(self, domid: int, port: int) -> PortFacts | None:
        try:
            told = self._domain0.hypercalls.port_status(port, domid)
        except HypercallError as error:
            return PortFacts(port, "closed") if error.errno == errno.EINVAL else None
        status = _STATUS.get(told.status, str(told.status))
        if told.status == ev.EVTCHNSTAT_interdomain:
            return PortFacts(port, status, told.u.interdomain.dom, told.u.interdomain.port)
        return PortFacts(port, status, told.u.unbound.dom if told.status == ev.EVTCHNSTAT_unbound else -1)


def _queues(memories: Mapping[int, memoryview], device: Attachment) -> Queues:
    ends = ((device.front, f"device/{device.type}/{device.id}"), (device.back, device.resource))
    return tuple(
        find(memories[domid], nodename) if domid in memories else None
        for find in (find_queue, find_stream)
        for domid, nodename in ends
    )


def _popped(then: QueueFacts | None, now: QueueFacts | None) -> int:
    same = then is not None and now is not None and then.number == now.number
    return max(0, now.popped - then.popped) if same and now and then else 0


def _pushed(then: QueueFacts | None, now: QueueFacts | None) -> int:
    same = then is not None and now is not None and then.number == now.number
    return max(0, now.pushed - then.pushed) if same and now and then else 0


def _streamed(then: Queues, now: Queues) -> int:
    """Returns how many entries of a one-way ring were read between two looks."""
    return max((_popped(before, after) for before, after in zip(then[2:], now[2:], strict=True)), default=0)


def _moved(then: Queues, now: Queues) -> bool:
    """Whether anything was published, taken or announced between two looks."""

    def indices(queue: QueueFacts | None) -> tuple[int, ...]:
        if queue is None:
            return ()
        return queue.number, queue.prod, queue.cons, queue.kicked, queue.armed, queue.in_use

    return any(indices(before) != indices(after) for before, after in zip(then, now, strict=True))
