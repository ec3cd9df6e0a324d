"""The store: sessions, domains and what happens to a message. No I/O; the server gives it hands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from xenlike.abi.xs_wire import XS_ERROR, XS_WATCH
from xenlike.domain.store_wire import PAYLOAD_MAX, READ, Perm
from xenlike.xenstored import records
from xenlike.xenstored.operations import OPERATIONS
from xenlike.xenstored.rules import ALL, Perms, Quotas, Refused, access, parent_of, unhand
from xenlike.xenstored.sessions import Outbox, Request, Session
from xenlike.xenstored.transactions import Transaction
from xenlike.xenstored.tree import Node, Tree
from xenlike.xenstored.watches import Watch, WatchTable

__all__ = ["IntroducedDomain", "NoRings", "Rings", "Store"]

_ENTRY_SIZE = 1 << 16
# Stands in the log for every domain that has no quota of its own.
_EVERYBODY = 0xFFFFFFFF
# An answer that a domain without room gets all the same.
_SHORT = 16


class Rings(Protocol):
    """What the server does with the rings of domains when the store says so."""

    def attach(self, domid: int, port: int) -> Session:
        """Maps a domain's ring and binds its port.

        Raises:
            Refused: it cannot be done.
        """

    def rebind(self, domid: int, port: int) -> bool:
        """Starts an attached ring afresh on another port.

        Returns:
            False where nothing was done, because it is bound to that very port.

        Raises:
            Refused: it cannot be done.
        """

    def detach(self, domid: int) -> None:
        """Lets go of a ring."""


class NoRings:
    """There is no hypervisor, hence no domain: a store for sockets only."""

    def attach(self, domid: int, port: int) -> Session:
        """Refuses: there is no ring to map."""
        raise Refused("EINVAL")

    def rebind(self, domid: int, port: int) -> bool:
        """Refuses: there is no ring to map."""
        raise Refused("EINVAL")

    def detach(self, domid: int) -> None:
        """Has nothing to let go of."""


class IntroducedDomain:
    """A domain that the store is in communication with."""

    __slots__ = ("domid", "gfn", "port", "session", "is_attached", "is_shut_down")

    def __init__(self, domid: int, gfn: int, port: int, session: Session, *, is_attached: bool = True) -> None:
        self.domid = domid
        self.gfn = gfn
        self.port = port
        self.session = session
        # False when its ring could not be taken up again after a restart.
        self.is_attached = is_attached
        self.is_shut_down = False


class Store:
    """Everything that the daemon knows.

    Args:
        quotas: limits of unprivileged domains.
        rings: hands for INTRODUCE and RELEASE.
        exists: says whether there is a domain; None where nobody knows, and any domid may be one.
    """

    def __init__(
        self,
        quotas: Quotas | None = None,
        rings: Rings | None = None,
        exists: Callable[[int], bool] | None = None,
    ) -> None:
        self.tree = Tree()
        self.watches = WatchTable()
        self.quotas = quotas or Quotas()
        self.rings = rings or NoRings()
        self.exists = exists
        self.domains: dict[int, IntroducedDomain] = {}
        self.special: dict[bytes, Perms] = {
            b"@introduceDomain": (Perm(0, "n"),),
            b"@releaseDomain": (Perm(0, "n"),),
        }
        # Domains that permissions refer to, and that were not introduced (yet).
        self.referred: set[int] = set()
        self._targets: dict[int, int] = {}
        self._own_quotas: dict[int, Quotas] = {}
        self._commit: Callable[[bytes], None] | None = None
        self._registered: Watch | None = None
        # What a domain is asking right now.
        self._request: Request | None = None
        for path in (b"/tool", b"/tool/xenstored"):
            self.tree.create(path, b"", (Perm(0, "n"),))

    # --- messages ---

    def handle(self, session: Session, kind: int, req_id: int, tx_id: int, payload: bytes) -> None:
        """Does what a message asks and puts the answer into the session's outbox."""
        request: Request | None = None
        if not session.privileged:
            request = self._request = Request(session)
        try:
            operation = OPERATIONS.get(kind)
            if operation is None:
                raise Refused("ENOSYS")
            function, privileged, in_transaction = operation
            if privileged and not session.privileged:
                raise Refused("EACCES")
            view: Tree | Transaction = self.tree
            if tx_id and in_transaction:
                found = session.transactions.get(tx_id)
                if found is None:
                    raise Refused("ENOENT")
                view = found
            answer = function(self, session, view, payload)
            if len(answer) > _SHORT:
                if len(answer) > PAYLOAD_MAX:
                    raise Refused("E2BIG")
                if not session.privileged and not self.has_room(session.domid, len(answer) + 16):
                    raise Refused("ENOMEM")
        except Refused as refused:
            session.outbox.reply(XS_ERROR, req_id, tx_id, refused.name.encode() + b"\0", request)
        else:
            session.outbox.reply(kind, req_id, tx_id, answer, request)
            if self._registered is not None and kind == XS_WATCH:
                # Told once straight away, so that a client needs no other way to learn the present.
                watch, self._registered = self._registered, None
                event = watch.event(watch.path)
                if session.privileged or self.has_room(session.domid, len(event) + 16):
                    session.outbox.event(event, watch.path[:1] == b"@")
        if request is not None:
            self._request = None
        if self.tree.journal:
            self.publish()

    def is_stalled(self, session: Session) -> bool:
        """Says whether a domain holds so much that its next request has to wait."""
        if session.privileged:
            return False
        quotas = self.quotas_of(session.domid)
        return session.outstanding >= quotas.outstanding or not self.has_room(session.domid, 0)

    def access(self, session: Session, node: Node) -> int:
        """Returns what a session may do with a node."""
        if session.privileged:
            return ALL
        return access(node.perms, node.generation, session.domid, session.target, self.tree.dead)

    # --- quotas ---

    def quotas_of(self, domid: int) -> Quotas:
        """Returns the limits of one domain: its own, or everybody's."""
        return self._own_quotas.get(domid, self.quotas)

    def set_quota(self, domid: int | None, name: str, value: int) -> None:
        """Gives a domain a limit of its own, until it ends; None sets that of all others.

        Raises:
            Refused: EINVAL for a quota that does not exist.
        """
        quotas = self.quotas if domid is None else self.quotas_of(domid)
        if name not in vars(quotas):
            raise Refused("EINVAL")
        if domid is None:
            self.quotas = replace(quotas, **{name: value})
        else:
            self._own_quotas[domid] = replace(quotas, **{name: value})
        if self.tree.journal is not None:
            target = _EVERYBODY if domid is None else domid
            self.tree.journal.append(records.Quota(name.encode(), target, value).pack())

    def refer(self, perms: Perms) -> Perms:
        """Returns permissions to be set, with those entries meaning nobody whose domain is not there.

        Raises:
            Refused: ENOENT when there is no such owner.
        """
        checked = tuple([perm if self.knows(perm.domid) else unhand(perm) for perm in perms])
        if not checked[0].access.islower():
            raise Refused("ENOENT")
        return checked

    def knows(self, domid: int) -> bool:
        """Says whether there is such a domain, and from then on looks out for its end."""
        if self.exists is None or domid == 0 or domid in self.domains or domid in self.referred:
            return True
        if not self.exists(domid):
            return False
        self.referred.add(domid)
        return True

    def memory(self, domid: int) -> int:
        """Returns how many bytes are a domain's, as its quota counts them."""
        domain = self.domains.get(domid)
        return self.tree.memory.get(domid, 0) + (domain.session.memory if domain is not None else 0)

    def has_room(self, domid: int, more: int) -> bool:
        """Says whether a domain may have so many bytes more."""
        limit = self.quotas_of(domid).memory if domid else 0
        return not limit or self.memory(domid) + more < limit

    # --- watches ---

    def watch(self, session: Session, path: bytes, token: bytes, prefix: int) -> None:
        """Registers a watch, whose first event follows the answer to the message at hand."""
        self._registered = self.watches.add(session, path, token, prefix)

    def fire(
        self,
        path: bytes,
        node: Node | None,
        *,
        exact: bool = False,
        before: tuple[Perms, int] | None = None,
        gone: dict[bytes, Node] | None = None,
    ) -> None:
        """Tells the clients whose watches a change concerns, if they may see it.

        Args:
            path: what changed.
            node: it, as it is or last was; None to look it up.
            exact: tell only those who watch this very path.
            before: permissions, and their generation, that a client may have seen it by.
            gone: what was removed together with it.
        """
        for watch in self.watches.matching(path, exact):
            session = watch.session
            if session.privileged:
                session.outbox.event(watch.event(path), False, self._request)
            elif self._may_see(session, path, node, before, gone):
                event = watch.event(path)
                if self.has_room(session.domid, len(event) + 16):
                    session.outbox.event(event, False, self._request)

    def _may_see(
        self,
        session: Session,
        path: bytes,
        node: Node | None,
        before: tuple[Perms, int] | None,
        gone: dict[bytes, Node] | None,
    ) -> bool:
        if before is not None:
            perms, generation = before
            if access(perms, generation, session.domid, session.target, self.tree.dead) & READ:
                return True
        node = node or self.tree.nodes.get(path)
        if node is None:
            return False
        if self.access(session, node) & READ:
            return True
        above = parent_of(path)
        parent = (gone.get(above) if gone else None) or self.tree.nodes.get(above)
        return parent is not None and bool(self.access(session, parent) & READ)

    def fire_special(self, name: bytes) -> None:
        """Tells of `@introduceDomain` or `@releaseDomain`."""
        perms = self.special[name]
        for watch in self.watches.matching(name, True):
            session = watch.session
            if session.privileged or access(perms, 0, session.domid, session.target, {}) & READ:
                event = watch.event(name)
                if session.privileged or self.has_room(session.domid, len(event) + 16):
                    session.outbox.event(event, True)

    def commit(self, transaction: Transaction) -> None:
        """Makes a transaction's changes everybody's; the caller has looked for conflicts."""
        for known in transaction.captured.values():
            if not known.modified:
                continue
            transaction.commit(known)
            if known.fires and (known.base is not None or known.node is not None):
                before = (known.base.perms, known.base.generation) if known.base is not None else None
                self.fire(known.path, None, exact=known.exact, before=before)
        if self.tree.journal is not None and transaction.journal:
            self.tree.journal += transaction.journal

    # --- domains ---

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """Starts to serve a domain's ring, or starts it afresh on another port.

        Raises:
            Refused: the ring cannot be mapped or the port not be bound.
        """
        known = self.domains.get(domid)
        if known is not None and known.is_attached:
            if not self.rings.rebind(domid, port):
                # Asked once more, because our predecessor died before it answered.
                return
            known.gfn, known.port = gfn, port
            self.forget(known.session)
        elif known is not None:
            target = known.session.target
            self.domains[domid] = IntroducedDomain(domid, gfn, port, self.rings.attach(domid, port))
            self.domains[domid].session.target = target
        else:
            session = self.rings.attach(domid, port)
            self.referred.discard(domid)
            self.domains[domid] = IntroducedDomain(domid, gfn, port, session)
            if domid:
                self.fire_special(b"@introduceDomain")
        if self.tree.journal is not None:
            self.tree.journal.append(records.Introduce(domid, gfn, port).pack())

    def release(self, domid: int) -> None:
        """Forgets a domain: its connection, its nodes, and whatever names it."""
        domain = self.domains.pop(domid)
        self._own_quotas.pop(domid, None)
        if domain.is_attached:
            self.rings.detach(domid)
        self.forget(domain.session)
        for other in self.domains.values():
            if other.session.target == domid:
                other.session.target = None
        self._disinherit(domid)
        self.fire_special(b"@releaseDomain")

    def _disinherit(self, domid: int) -> None:
        """Removes what a domain owned, and has whatever names it mean nobody."""
        if self.tree.journal is not None:
            self.tree.journal.append(records.End(domid).pack())
        for path in self.tree.end_domain(domid):
            self.remove(path)
        self.special = {name: _disown(perms, domid) for name, perms in self.special.items()}

    def remove(self, path: bytes) -> None:
        """Removes a subtree for everybody and tells who watches it or anything in it."""
        removed = self.tree.remove(path)
        gone = dict(removed)
        for below, node in removed:
            self.fire(below, node, exact=below != path, gone=gone)

    def forget(self, session: Session) -> None:
        """Drops a session's watches and transactions."""
        for watch in list(session.watches.values()):
            self.watches.remove(watch)
        session.transactions.clear()

    def mourn(self, states: Callable[[int], str | None]) -> None:
        """Looks which domains have shut down or ended, after the hypervisor said that some have.

        Args:
            states: `"running"`, `"shutdown"` or `"dying"` by domid; None when it is gone.
        """
        stopped = False
        for domid in list(self.domains):
            if domid == 0:
                continue
            state = states(domid)
            if state is None or state == "dying":
                self.release(domid)
            elif state == "shutdown" and not self.domains[domid].is_shut_down:
                self.domains[domid].is_shut_down = stopped = True
        for domid in [domid for domid in self.referred if states(domid) is None]:
            # It never had a connection, so nobody is told; but what it was given must not go to its successor.
            self.referred.discard(domid)
            self._disinherit(domid)
        if stopped:
            self.fire_special(b"@releaseDomain")
        self.publish()

    # --- the log ---

    def keep_log(self, commit: Callable[[bytes], None]) -> None:
        """Has every change from now on passed to `commit`, one entry for what counts together."""
        self.tree.journal = []
        self._commit = commit

    def replay(self, entries: Iterable[bytes]) -> list[records.Introduce]:
        """Makes the changes of a log once more, before `keep_log`.

        Returns:
            the domains that were introduced and not released, for the caller to `restore`.

        Raises:
            ValueError: an entry is not what this version writes.
        """
        introduced: dict[int, records.Introduce] = {}
        for entry in entries:
            for record in records.parse(entry):
                if isinstance(record, records.Put | records.Remove):
                    self.tree.apply(record)
                elif isinstance(record, records.Introduce):
                    introduced[record.domid] = record
                elif isinstance(record, records.End):
                    introduced.pop(record.domid, None)
                    self._own_quotas.pop(record.domid, None)
                    self._targets = {d: t for d, t in self._targets.items() if record.domid not in {d, t}}
                    self.tree.end_domain(record.domid)
                elif isinstance(record, records.Target):
                    self._targets[record.domid] = record.target
                elif isinstance(record, records.Quota):
                    domid = None if record.domid == _EVERYBODY else record.domid
                    self.set_quota(domid, record.name.decode(), record.value)
                else:
                    self.special[record.name] = record.perms
        if self.exists is not None:
            named = {perm.domid for node in self.tree.nodes.values() for perm in node.perms if perm.access.islower()}
            self.referred = named - introduced.keys() - {0}
        return list(introduced.values())

    def restore(self, record: records.Introduce) -> None:
        """Takes up a domain from the log again, without telling anybody.

        One whose ring cannot be attached stays introduced: it may be dead, which `mourn` finds out,
        or it is introduced again.
        """
        is_attached = True
        try:
            session = self.rings.attach(record.domid, record.port)
        except Refused:
            is_attached = False
            session = Session(record.domid, False, Outbox(lambda: None))
        session.target = self._targets.get(record.domid)
        self.domains[record.domid] = IntroducedDomain(*record, session, is_attached=is_attached)

    def snapshot(self) -> Iterator[bytes]:
        """Yields entries that make this store out of a new one."""
        batch: list[bytes] = []
        size = 0
        for record in self._records():
            batch.append(record)
            size += len(record)
            if size > _ENTRY_SIZE:
                yield b"".join(batch)
                batch, size = [], 0
        yield b"".join(batch)

    def _records(self) -> Iterator[bytes]:
        yield from self.tree.snapshot()
        for domain in self.domains.values():
            yield records.Introduce(domain.domid, domain.gfn, domain.port).pack()
            if domain.session.target is not None:
                yield records.Target(domain.domid, domain.session.target).pack()
        for name, perms in self.special.items():
            yield records.Special(name, perms).pack()
        for quota, value in vars(self.quotas).items():
            yield records.Quota(quota.encode(), _EVERYBODY, value).pack()
        for domid, quotas in self._own_quotas.items():
            for quota, value in vars(quotas).items():
                if value != vars(self.quotas)[quota]:
                    yield records.Quota(quota.encode(), domid, value).pack()

    def publish(self) -> None:
        """Passes on what changed since the last call, as one entry. `handle` and `mourn` do it themselves."""
        journal = self.tree.journal
        if journal and self._commit is not None:
            entry = journal[0] if len(journal) == 1 else b"".join(journal)
            journal.clear()
            self._commit(entry)


def _disown(perms: Perms, domid: int) -> Perms:
    """Returns the permissions of a special watch without a domain that ended."""
    owner = perms[0] if perms[0].domid != domid else Perm(0, perms[0].access)
    return (owner, *(perm for perm in perms[1:] if perm.domid != domid))
