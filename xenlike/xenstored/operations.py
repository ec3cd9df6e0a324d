"""What each message about nodes, watches and transactions does.

An operation takes the store, who asks, the tree or the transaction it is about and the payload, and
returns the payload of the answer or raises `Refused`. The order in which it looks at things is
Xen's, because inside a transaction looking is what counts, and because it decides which of several
errors is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import PAYLOAD_MAX, READ, WRITE, Perm
from xenlike.xenstored import records
from xenlike.xenstored.control import CONTROL_OPERATIONS
from xenlike.xenstored.rules import OWNER, Perms, Refused, atoi, is_valid_path, parent_of, parse_perms, show_perms
from xenlike.xenstored.transactions import Transaction
from xenlike.xenstored.tree import Node, View

if TYPE_CHECKING:
    from xenlike.xenstored.sessions import Session
    from xenlike.xenstored.store import Store

__all__ = ["OPERATIONS", "Operation"]

_OK = b"OK\0"

Operation = Callable[["Store", "Session", View, bytes], bytes]


def only_string(payload: bytes) -> bytes:
    """Returns the payload's one string; its only NUL must be its last byte."""
    if payload and payload.find(b"\0") == len(payload) - 1:
        return payload[:-1]
    raise Refused("EINVAL")


def find(store: Store, session: Session, view: View, name: bytes, bits: int) -> tuple[bytes, Node | None]:
    """Looks for a node that the session may use in some way.

    A node may be open to somebody although the nodes above it are not. Where it is refused or
    missing, the nearest existing node above decides whether the client may learn which.

    Returns:
        its absolute path, and the node, or None where there is none.

    Raises:
        Refused: EINVAL for a name that no node can have; EACCES.
    """
    path = name if name[:1] == b"/" else session.absolute(name)
    if path not in store.tree.nodes and not is_valid_path(path):
        raise Refused("EINVAL")
    node = view.read(path)
    if node is not None and (session.privileged or store.access(session, node) & bits == bits):
        return path, node
    above = path
    while True:
        above = parent_of(above)
        nearest = view.read(above)
        if nearest is not None:
            break
    if node is None and store.access(session, nearest) & bits:
        return path, None
    raise Refused("EACCES")


def _existing(store: Store, session: Session, view: View, name: bytes, bits: int) -> tuple[bytes, Node]:
    path, node = find(store, session, view, name, bits)
    if node is None:
        raise Refused("ENOENT")
    return path, node


def _changed(store: Store, view: View, path: bytes, before: tuple[Perms, int] | None = None) -> None:
    """Fires the watches of a changed node, or has them fired when the transaction commits."""
    if isinstance(view, Transaction):
        view.fire(path, False)
    else:
        store.fire(path, None, before=before)


def _check_size(store: Store, session: Session, view: View, size: int) -> None:
    if not session.privileged and size >= store.quotas_of(session.domid).node_size:
        if isinstance(view, Transaction):
            view.failed = True
        raise Refused("ENOSPC")


def _check_room(store: Store, session: Session, view: View, owner: int, more: int) -> None:
    """Refuses to let a domain have more than its memory; what a transaction holds is its client's."""
    in_transaction = isinstance(view, Transaction)
    if not store.has_room(session.domid if in_transaction else owner, more):
        if isinstance(view, Transaction):
            view.failed = True
        raise Refused("EIO")


def _create(store: Store, session: Session, view: View, path: bytes, value: bytes) -> None:
    """Creates a node and whatever is missing above it; they inherit the parent's permissions."""
    missing = [path]
    above = parent_of(path)
    while (parent := view.read(above)) is None:
        missing.append(above)
        above = parent_of(above)
    perms = view.live(parent.perms, parent.generation)
    if not session.privileged:
        perms = (Perm(session.domid, perms[0].access), *perms[1:])
        held = store.tree.count(session.domid)
        new = 1 if isinstance(view, Transaction) else len(missing)
        if held + new > store.quotas_of(session.domid).nodes:
            raise Refused("ENOSPC")
        fixed = Node(b"", perms, 0).size
        _check_size(store, session, view, fixed + len(value))
        for level in missing:
            name_size = len(level) - level.rfind(b"/")
            _check_size(store, session, view, (parent.size if level is missing[-1] else fixed) + name_size)
    owner, fixed = perms[0].domid, Node(b"", perms, 0).size
    names = sum([len(level) - level.rfind(b"/") for level in missing[:-1]])
    new = sum(map(view.key_size, missing)) + fixed * len(missing) + len(value) + names
    _check_room(store, session, view, owner, new)
    _check_room(store, session, view, parent.owner, len(missing[-1]) - missing[-1].rfind(b"/"))
    for level in reversed(missing):
        view.create(level, value if level is path else b"", perms)


def read(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """READ path| -> value."""
    return _existing(store, session, view, only_string(payload), READ)[1].value


def directory(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """DIRECTORY path| -> names, each with a NUL."""
    return _existing(store, session, view, only_string(payload), READ)[1].listing()


def directory_part(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """DIRECTORY_PART path|offset| -> generation| names from there on; an empty name ends the last part."""
    name, _, rest = payload.partition(b"\0")
    if payload.count(b"\0") != 2:
        raise Refused("EINVAL")
    _, node = _existing(store, session, view, name, READ)
    listing = node.listing()
    offset = atoi(rest)
    head = b"%d\0" % node.generation
    if offset >= len(listing):
        return head + b"\0"
    most = PAYLOAD_MAX - len(head) - 1
    part = listing[offset : offset + most]
    part = part[: part.rfind(b"\0") + 1]
    return head + part + (b"\0" if offset + len(part) == len(listing) else b"")


def write(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """WRITE path|value."""
    name, end, value = payload.partition(b"\0")
    if not end:
        raise Refused("EINVAL")
    path, node = find(store, session, view, name, WRITE)
    if node is None:
        _create(store, session, view, path, value)
    else:
        if not session.privileged:
            _check_size(store, session, view, node.size - len(node.value) + len(value))
        if not session.privileged or node.perms[0].domid:
            _check_room(store, session, view, node.owner, len(value) - len(node.value))
        view.write(path, value)
    _changed(store, view, path)
    return _OK


def mkdir(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """MKDIR path|; fine if it exists."""
    path, node = find(store, session, view, only_string(payload), WRITE)
    if node is None:
        _create(store, session, view, path, b"")
        _changed(store, view, path)
    return _OK


def rm(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """RM path|; fine if it does not exist while its parent does."""
    path, node = find(store, session, view, only_string(payload), WRITE)
    if node is None:
        if view.read(parent_of(path)) is None:
            raise Refused("ENOENT")
    elif path == b"/":
        raise Refused("EINVAL")
    elif isinstance(view, Transaction):
        for below, _ in view.remove(path):
            view.fire(below, below != path)
    else:
        store.remove(path)
    return _OK


def get_perms(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """GET_PERMS path| -> permissions, each with a NUL."""
    node = _existing(store, session, view, only_string(payload), READ)[1]
    return show_perms(node.perms)


def set_perms(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """SET_PERMS path|perm|+, for the owner; the path may be a special event's name."""
    name, *entries = payload.split(b"\0")[:-1] or [b""]
    if not entries:
        raise Refused("EINVAL")
    if not session.privileged and len(entries) > store.quotas_of(session.domid).perms:
        raise Refused("ENOSPC")
    perms = store.refer(parse_perms(entries))
    if name[:1] == b"@":
        if name not in store.special:
            raise Refused("EINVAL")
        if not session.privileged and store.special[name][0].domid != session.domid:
            raise Refused("EACCES")
        store.special[name] = perms
        if store.tree.journal is not None:
            store.tree.journal.append(records.Special(name, perms).pack())
        return _OK
    path, node = _existing(store, session, view, name, WRITE | OWNER)
    if not session.privileged and perms[0].domid != node.owner:
        raise Refused("EPERM")
    before = (node.perms, node.generation)
    size = node.size + 8 * (len(perms) - len(node.perms))
    _check_size(store, session, view, size)
    held = node.size + view.key_size(path) if isinstance(view, Transaction) or node.owner == perms[0].domid else 0
    _check_room(store, session, view, perms[0].domid, size + view.key_size(path) - held)
    view.set_perms(path, perms)
    _changed(store, view, path, before)
    return _OK


def watch(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """WATCH path|token|."""
    path, token, prefix = _watched(session, payload)
    if path[:1] == b"@":
        if len(path) > xs.XENSTORE_REL_PATH_MAX:
            raise Refused("EINVAL")
    elif not is_valid_path(path):
        raise Refused("EINVAL")
    if (path, token) in session.watches:
        raise Refused("EEXIST")
    if not session.privileged and len(session.watches) > store.quotas_of(session.domid).watches:
        raise Refused("E2BIG")
    if not session.privileged and not store.has_room(session.domid, len(path) + len(token)):
        raise Refused("ENOMEM")
    store.watch(session, path, token, prefix)
    return _OK


def unwatch(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """UNWATCH path|token|, as it was registered."""
    path, token, _ = _watched(session, payload)
    known = session.watches.get((path, token))
    if known is None:
        raise Refused("ENOENT")
    store.watches.remove(known)
    return _OK


def _watched(session: Session, payload: bytes) -> tuple[bytes, bytes, int]:
    """Returns a watch's absolute path, its token, and how much of a path its client leaves out."""
    parts = payload.split(b"\0")
    if len(parts) != 3:
        raise Refused("EINVAL")
    path = session.absolute(parts[0])
    return path, parts[1], 0 if path == parts[0] else len(session.home) + 1


def reset_watches(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """RESET_WATCHES |; transactions go too."""
    store.forget(session)
    return _OK


def transaction_start(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """TRANSACTION_START | -> id|; transactions do not nest."""
    if isinstance(view, Transaction):
        raise Refused("EBUSY")
    if not session.privileged and len(session.transactions) > store.quotas_of(session.domid).transactions:
        raise Refused("ENOSPC")
    while session.next_transaction in session.transactions or not session.next_transaction:
        session.next_transaction = (session.next_transaction + 1) & 0xFFFFFFFF
    tx_id = session.next_transaction
    session.next_transaction = (tx_id + 1) & 0xFFFFFFFF
    limit = 0 if session.privileged else store.quotas_of(session.domid).transaction_nodes
    session.transactions[tx_id] = Transaction(store.tree, tx_id, limit)
    return b"%d\0" % tx_id


def transaction_end(store: Store, session: Session, view: View, payload: bytes) -> bytes:
    """TRANSACTION_END T| or F|; whatever the answer, unless it is EINVAL, the transaction is over."""
    if payload not in {b"T\0", b"F\0"}:
        raise Refused("EINVAL")
    if not isinstance(view, Transaction):
        raise Refused("ENOENT")
    del session.transactions[view.tx_id]
    if payload == b"T\0":
        if view.failed:
            raise Refused("ENOMEM")
        checked = view.created and not session.privileged
        for domid, change in view.charges.items():
            if checked and store.tree.count(domid) + change >= store.quotas_of(domid).nodes:
                raise Refused("ENOSPC")
            if not store.knows(domid):
                # It has ended since it was made an owner.
                raise Refused("ENOMEM")
        if view.conflicts():
            raise Refused("EAGAIN")
        store.commit(view)
    return _OK


# message: operation, only for the privileged, can be part of a transaction
OPERATIONS: dict[int, tuple[Operation, bool, bool]] = {
    xs.XS_DIRECTORY: (directory, False, True),
    xs.XS_READ: (read, False, True),
    xs.XS_GET_PERMS: (get_perms, False, True),
    xs.XS_WATCH: (watch, False, False),
    xs.XS_UNWATCH: (unwatch, False, False),
    xs.XS_TRANSACTION_START: (transaction_start, False, True),
    xs.XS_TRANSACTION_END: (transaction_end, False, True),
    xs.XS_WRITE: (write, False, True),
    xs.XS_MKDIR: (mkdir, False, True),
    xs.XS_RM: (rm, False, True),
    xs.XS_SET_PERMS: (set_perms, False, True),
    xs.XS_RESET_WATCHES: (reset_watches, False, True),
    xs.XS_DIRECTORY_PART: (directory_part, False, True),
    **CONTROL_OPERATIONS,
}
