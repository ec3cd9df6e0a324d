"""Why a device of a loopback machine does not move, as `xenlike why` says it of a real one.

device = machine.plug("echo")
...
print(why(machine, device).sentence)      # guest waits: backend d1 is in InitWait because node ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xenlike.testing.fakedomain import FakeDomain
from xenlike.testing.loopback import LoopDomain
from xenlike.toolstack.tracing import Protocols
from xenlike.toolstack.why.collect import make_end, make_evidence
from xenlike.toolstack.why.evidence import DomainFacts, DomainState, End, GrantFacts, PortFacts, Side
from xenlike.toolstack.why.explain import explain
from xenlike.toolstack.why.recorded import Recorded
from xenlike.xenbus import load_frontend

if TYPE_CHECKING:
    from xenlike.abi.protocol import Protocol
    from xenlike.testing.loopback import Loopback, Plugged
    from xenlike.toolstack.why.rule import Explanation


def why(machine: Loopback, device: Plugged) -> Explanation:
    """Explains a device as it stands now, which is the truth when all tasks sleep."""
    type, id = device.front_path.split("/")[-2:]
    ends = (device.front, device.back)
    recorded = Recorded({domain.domid: domain.recorder.memory for domain in ends}, device.front.recorder.memory)
    front = _end(machine, "frontend", device.front, device.front_path, recorded)
    back = _end(machine, "backend", device.back, device.back_path, recorded)

    def grant_of(domid: int, node: str, ref: int) -> GrantFacts | None:
        domain = machine.domains[domid]
        grant = domain.grants.entries.get(ref)
        if grant is None:
            return GrantFacts(node, ref, given=False)
        window = domain.memory.find(grant.pfn)
        return GrantFacts(node, ref, True, grant.peer, None if window is None else window[0].peer, grant.mapped)

    def port_of(domid: int, port: int) -> PortFacts | None:
        return _port(machine.domains[domid], port)

    name, protocol = f"{device.front.name}/{type}/{id}", _protocol(machine, type)
    return explain(make_evidence(name, type, front, back, protocol, recorded, grant_of, port_of))


def _end(machine: Loopback, side: Side, domain: LoopDomain, path: str, recorded: Recorded) -> End:
    nodes, prefix = machine.tree.nodes, f"{path}/"
    mine = {node.removeprefix(prefix): text for node, text in nodes.items() if node.startswith(prefix)}
    error = nodes.get(f"{domain.home}/error/{path.removeprefix(f'{domain.home}/')}/error", "")
    state: DomainState = "stopped" if domain.is_stopped else "running" if domain.alive else "crashed"
    return make_end(side, path, DomainFacts(domain.domid, domain.name, state), mine, error, recorded)


def _port(domain: FakeDomain, port: int) -> PortFacts:
    offer = domain.events.unbound.get(port)
    channel = domain.events.channels.get(port)
    if channel is None or not domain.alive:
        return PortFacts(port, "closed")
    if offer is not None:
        return PortFacts(port, "unbound", offer[0])
    return PortFacts(port, "interdomain", channel.remote_domid)


def _protocol(machine: Loopback, type: str) -> Protocol | None:
    driver = machine.frontend_drivers.get(type)
    if driver is None:
        return Protocols().of(f"device/{type}")
    return load_frontend(driver).protocol
