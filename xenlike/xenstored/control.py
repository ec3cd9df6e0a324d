"""Messages about domains, and CONTROL. Mostly for domain 0."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from xenlike.abi import xs_wire as xs
from xenlike.abi.xen import DOMID_SELF
from xenlike.xenstored import records
from xenlike.xenstored.rules import Refused, atoi

if TYPE_CHECKING:
    from xenlike.xenstored.operations import Operation
    from xenlike.xenstored.sessions import Session
    from xenlike.xenstored.store import Store
    from xenlike.xenstored.tree import View

__all__ = ["CONTROL_OPERATIONS"]

logger = logging.getLogger(__name__)

_OK = b"OK\0"

_COMMANDS = {
    b"check": b"",
    b"log": b"on|off",
    b"print": b"<string>",
    b"quota": b"[set [<domid>] <name> <val>|<domid>]",
    b"help": b"",
}

# Xen's names of the quotas, ours, and what Xen says about them.
_QUOTAS = [
    ("nodes", "nodes", "Nodes per domain"),
    ("watches", "watches", "Watches per domain"),
    ("transactions", "transactions", "Transactions per domain"),
    ("outstanding", "outstanding", "Outstanding requests per domain"),
    ("transaction-nodes", "transaction_nodes", "Max. number of accessed nodes per transaction"),
    ("memory", "memory", "Total Xenstore memory per domain (error level)"),
    ("node-size", "node_size", "Max. size of a node"),
    ("path-max", "path_max", "Max. length of a node path"),
    ("permissions", "perms", "Max. number of permissions per node"),
]


def _only_domid(payload: bytes) -> int:
    if not payload or payload.find(b"\0") != len(payload) - 1:
        raise Refused("EINVAL")
    return atoi(payload[:-1])


def introduce(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """INTRODUCE domid|gfn|port|: the ring is the page behind the domain's grant reference 1."""
    parts = payload.split(b"\0")
    if len(parts) < 4:
        raise Refused("EINVAL")
    domid, gfn, port = atoi(parts[0]), atoi(parts[1]), atoi(parts[2])
    if port == 0:
        raise Refused("EINVAL")
    store.introduce(domid, gfn, port)
    return _OK


def release(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """RELEASE domid|: the domain is disconnected, and what it owned goes with it."""
    domid = _only_domid(payload)
    if domid == 0:
        raise Refused("EINVAL")
    if domid not in store.domains:
        raise Refused("ENOENT")
    store.release(domid)
    return _OK


def resume(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """RESUME domid|: the domain may shut down once more, and be told of again."""
    domid = _only_domid(payload)
    if domid == 0:
        raise Refused("EINVAL")
    domain = store.domains.get(domid)
    if domain is None:
        raise Refused("ENOENT")
    domain.is_shut_down = False
    return _OK


def set_target(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """SET_TARGET domid|target|: the first may do what the second may."""
    parts = payload.split(b"\0")
    if len(parts) < 3:
        raise Refused("EINVAL")
    domid, target = atoi(parts[0]), atoi(parts[1])
    if domid not in store.domains or target not in store.domains:
        raise Refused("ENOENT")
    store.domains[domid].session.target = target
    if store.tree.journal is not None:
        store.tree.journal.append(records.Target(domid, target).pack())
    return _OK


def get_domain_path(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """GET_DOMAIN_PATH domid| -> path|."""
    return b"/local/domain/%d\0" % _only_domid(payload)


def is_domain_introduced(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """IS_DOMAIN_INTRODUCED domid| -> T| or F|. Domain 0 always is."""
    domid = _only_domid(payload)
    return b"T\0" if domid in store.domains or domid in {0, DOMID_SELF} else b"F\0"


def control(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """CONTROL command|[parameter|]*: a few of Xen's commands."""
    command, *parameters = payload.split(b"\0")[:-1] or [b""]
    if command not in _COMMANDS:
        raise Refused("EINVAL")
    if command == b"help":
        if parameters:
            raise Refused("EINVAL")
        return b"".join([b"%s\t%s\n" % item for item in _COMMANDS.items()]) + b"\0"
    if command == b"log":
        if parameters not in ([b"on"], [b"off"]):
            raise Refused("EINVAL")
        logging.getLogger("xenlike.xenstored").setLevel(logging.DEBUG if parameters == [b"on"] else logging.NOTSET)
    elif command == b"print":
        if len(parameters) != 1:
            raise Refused("EINVAL")
        logger.info("control: %s", parameters[0].decode("ascii", "replace"))
    elif command == b"quota":
        return _quota(store, parameters)
    return _OK


def _quota(store: Store, parameters: list[bytes]) -> bytes:
    if not parameters:
        values = {**vars(store.quotas), "path_max": xs.XENSTORE_REL_PATH_MAX}
        lines = [f"{name:<17}: {values[ours]:8} {about}\n" for name, ours, about in _QUOTAS]
        return "".join(["Quota settings:\n", *lines]).encode() + b"\0"
    if parameters[0] == b"set":
        return _set_quota(store, parameters[1:])
    domid = atoi(parameters[0])
    domain = store.domains.get(domid)
    if len(parameters) != 1:
        raise Refused("EINVAL")
    if domain is None and domid not in store.referred:
        raise Refused("ENOENT")
    held = {
        "nodes": store.tree.count(domid),
        "watches": len(domain.session.watches) if domain is not None else 0,
        "transactions": len(domain.session.transactions) if domain is not None else 0,
        "outstanding": domain.session.outstanding if domain is not None else 0,
        "memory": store.memory(domid),
    }
    lines = [f"Domain {domid}:\n", *(f"{name:<16}: {value:8}\n" for name, value in held.items())]
    return "".join(lines).encode() + b"\0"


def _set_quota(store: Store, parameters: list[bytes]) -> bytes:
    """Sets a quota of all domains, as in Xen, or of one: a domain that serves devices needs more nodes than a guest."""
    ours = {name.encode(): own for name, own, _ in _QUOTAS}
    if len(parameters) == 2:
        value = atoi(parameters[1])
        if not 0 < value < 1 << 31:
            raise Refused("EINVAL")
        store.set_quota(None, ours.get(parameters[0], ""), value)
        return _OK
    if len(parameters) != 3 or not parameters[2].isdigit():
        raise Refused("EINVAL")
    domid, value = atoi(parameters[0]), atoi(parameters[2])
    if domid not in store.domains:
        raise Refused("ENOENT")
    store.set_quota(domid, ours.get(parameters[1], ""), value)
    return _OK


CONTROL_OPERATIONS: dict[int, tuple[Operation, bool, bool]] = {
    xs.XS_CONTROL: (control, True, True),
    xs.XS_INTRODUCE: (introduce, True, True),
    xs.XS_RELEASE: (release, True, True),
    xs.XS_GET_DOMAIN_PATH: (get_domain_path, False, True),
    xs.XS_IS_DOMAIN_INTRODUCED: (is_domain_introduced, True, True),
    xs.XS_RESUME: (resume, True, True),
    xs.XS_SET_TARGET: (set_target, True, True),
}
