"""The machine's side of a trace: who follows what, which classes are recorded for them, and what there is to read.

While nobody follows nothing runs and nothing is mapped. While somebody does, all recorders that are wanted are
mapped, the bits that he wants are set in their masks, and each follower reads at his own pace, some forty times a
second. Bits are taken back when the last who wanted them has gone, however he went.

A domain that comes is seen at once, for the machine calls `look` before it runs, and `forget` when it has gone: its
recorder stays mapped for as long as somebody reads it, so that its last words are heard.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import trio

from xenlike import _core
from xenlike.abi import hypercall as hc
from xenlike.abi.recorder import XENLIKE_TRACE_ENTRY, XENLIKE_TRACE_RING, RecorderHead
from xenlike.errors import HypercallError
from xenlike.toolstack.device_names import device_name, list_devices, match_device, match_domain
from xenlike.toolstack.tracing.clock import Clock
from xenlike.toolstack.tracing.decode import RECORD
from xenlike.toolstack.tracing.reader import Chunk, RecorderReader
from xenlike.toolstack.tracing.updates import TracedDevice, TraceDrivers, TraceParams, TraceUpdate

if TYPE_CHECKING:
    from xenlike.domain.domain import Domain
    from xenlike.toolstack.guest import Guest

HOT = XENLIKE_TRACE_RING | XENLIKE_TRACE_ENTRY
PERIOD_S = 0.025
_AT_ONCE = 2048
"""Records in one message: what fits well into a line of the control socket."""
_ROUND = 8192
"""Records that a recorder can hold: what one was to read when a round began is read with as many."""

Send = Callable[[TraceUpdate], Awaitable[None]]


def name_of(info: hc.GetDomainInfo) -> str:
    """Returns a domain's name as the hypervisor has it."""
    return info.name.partition(b"\0")[0].decode(errors="replace")


class _Recorder:
    """A domain's recorder, mapped."""

    def __init__(self, info: hc.GetDomainInfo, memory: memoryview) -> None:
        self.domid = info.domid
        self.name = name_of(info)
        self.memory = memory
        self.has_ended = False
        self._reader = RecorderReader(info.domid, memory, from_now=True)
        # What was asked for here, and is not the domain's own wish.
        self._added = 0

    def want(self, classes: int) -> None:
        """Has these classes of the hot paths recorded, and no others of those that were asked for before."""
        lacking, excess = classes & ~self._reader.mask, self._added & ~classes
        if lacking or excess:
            self._reader.ask(lacking, excess)
        self._added = (self._added | lacking) & classes


class _Follower:
    """One who follows."""

    def __init__(self, params: TraceParams, domains: set[str] | None) -> None:
        self.classes = params.classes & HOT if params.follow else 0
        self._domains = domains
        self._from_now = params.follow
        self._readers: dict[_Recorder, RecorderReader] = {}
        self._begun = False

    def wants(self, recorder: _Recorder) -> bool:
        return self._domains is None or recorder.name in self._domains

    def take(self, recorders: Iterable[_Recorder]) -> None:
        """Reads from these too."""
        for recorder in recorders:
            if recorder not in self._readers and self.wants(recorder):
                # Of a domain that came later everything is new.
                from_now = self._from_now and not self._begun
                self._readers[recorder] = RecorderReader(recorder.domid, recorder.memory, from_now=from_now)
        self._begun = True

    def read(self) -> Iterator[Chunk]:
        """Reads what was there when it began, from all, and drops those who will write no more."""
        for recorder, reader in list(self._readers.items()):
            ended = recorder.has_ended
            for _ in range(_ROUND // _AT_ONCE + 1):
                chunk = reader.read(_AT_ONCE, everything=ended)
                if chunk.records or chunk.lost or chunk.places is not None:
                    yield chunk
                if not chunk.records:
                    break
            if ended:
                del self._readers[recorder]


class Tracing:
    """Streams the records of a machine's domains to whoever asks.

    Args:
        domain0: maps recorders, and looks devices up.
        guests: the machine's domains by name, for the drivers that they brought.
    """

    def __init__(self, domain0: Domain, guests: Mapping[str, Guest]) -> None:
        self._domain0 = domain0
        self._guests = guests
        self._followers: set[_Follower] = set()
        self._recorders: dict[int, _Recorder] = {}
        self._names: dict[int, str] = {}

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._followers)

    async def stream(self, params: TraceParams, send: Send) -> None:
        """Sends what is recorded, until cancelled; without `follow` until what is there was sent.

        Raises:
            NoSuchDevice: what is to be traced is no device, and no domain.
            ConfigError: it may be any of several.
        """
        device, domain = await self._find(params.what)
        first = TraceUpdate(device=device, domain=domain, drivers=self._drivers())
        follower = _Follower(params, self._domains_of(device, domain))
        self._followers.add(follower)
        try:
            self.look()
            first.names = names = dict(self._names)
            await send(first)
            most = 1
            while True:
                most = await self._send_round(follower, send, bool(most))
                if not params.follow:
                    return
                # So much may well be overwritten before the next turn.
                await trio.sleep(PERIOD_S if most < _ROUND // 2 else 0)
                if names != self._names:
                    names = dict(self._names)
                    await send(TraceUpdate(names=names, drivers=self._drivers()))
        finally:
            self._followers.discard(follower)
            self._ask()
            if not self._followers:
                self._recorders.clear()

    async def _send_round(self, follower: _Follower, send: Send, is_awaited: bool) -> int:
        """Sends what there is.

        Args:
            follower: to whom.
            send: sends it.
            is_awaited: the client has kept back what was later than the last horizon, and waits for this one.

        Returns:
            How many records that domain had which had most.
        """
        horizon = _core.trace_clock(0)[1]
        follower.take(self._recorders.values())
        chunks = list(follower.read())
        clock = self._clock()
        counts: Counter[int] = Counter()
        batch: list[Chunk] = []
        size = 0
        for chunk in chunks:
            count = len(chunk.records) // RECORD
            counts[chunk.domid] += count
            if batch and size + count > _AT_ONCE:
                await send(TraceUpdate(batch, clock))
                batch, size = [], 0
            batch.append(chunk)
            size += count
        if chunks or is_awaited:
            await send(TraceUpdate(batch, clock, horizon))
        return max(counts.values(), default=0)

    def look(self) -> None:
        """Sees who is there; to be called when a domain has come, before it runs. Does nothing while nobody follows."""
        if not self._followers:
            return
        infos = {info.domid: info for info in self._domain0.hypercalls.domain_infos()}
        for domid in set(self._recorders) - set(infos):
            self.forget(domid)
        self._names = {domid: name_of(info) for domid, info in infos.items()}
        for domid, info in infos.items():
            if domid not in self._recorders:
                try:
                    self._recorders[domid] = _Recorder(info, self._domain0.hypercalls.recorder_memory(domid))
                except (HypercallError, OSError):
                    # It ended before it had one, or the host has no descriptor left.
                    continue
        self._ask()

    def forget(self, domid: int) -> None:
        """A domain has ended, and its number may be another's soon; what it has recorded is still read."""
        recorder = self._recorders.pop(domid, None)
        if recorder is not None:
            recorder.has_ended = True
            for follower in self._followers:
                follower.take((recorder,))

    def _ask(self) -> None:
        """Has recorded what somebody wants, and nothing else."""
        for recorder in self._recorders.values():
            wanted = 0
            for follower in self._followers:
                if follower.wants(recorder):
                    wanted |= follower.classes
            recorder.want(wanted)

    def _clock(self) -> Clock:
        return Clock.of(RecorderHead.unpack(self._domain0.recorder.memory))

    async def _find(self, what: str) -> tuple[TracedDevice | None, str]:
        """Returns the device that is meant, or the domain's name, or neither for all."""
        if not what:
            await trio.lowlevel.checkpoint()
            return None, ""
        names = {info.domid: name_of(info) for info in self._domain0.hypercalls.domain_infos()}
        domid = match_domain(what, names)
        if domid is not None:
            await trio.lowlevel.checkpoint()
            return None, names[domid]
        devices = await list_devices(self._domain0.store, list(names))
        found = match_device(what, devices, names)
        return TracedDevice(found.type, found.id, found.front, found.back, device_name(found, names)), ""

    def _domains_of(self, device: TracedDevice | None, domain: str) -> set[str] | None:
        if device is not None:
            infos = self._domain0.hypercalls.domain_infos()
            return {name_of(info) for info in infos if info.domid in (device.front, device.back)}
        return {domain} if domain else None

    def _drivers(self) -> TraceDrivers:
        frontends = {
            type: driver.frontend for guest in self._guests.values() for type, driver in guest.spec.drivers.items()
        }
        return TraceDrivers(frontends, [os.path.abspath(entry) for entry in sys.path] if frontends else [])
