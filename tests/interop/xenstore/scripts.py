"""Random scripts of operations, and the two daemons that run them step by step.

A step is a message of one client, malformed ones among them, or something that happens to a client: a domain is
created, introduced, shuts down, dies; a tool comes and goes. After each step the answer and
every client's events are compared.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.interop.xenstore.oracle import RUNNING, SHUTDOWN, Oracle, Peer
from tests.unit.store.harness import FakeRings
from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import FrameReader
from xenlike.xenstored.rules import Quotas
from xenlike.xenstored.sessions import Outbox, Session
from xenlike.xenstored.store import Store

TOOLS = ("tool0", "tool1")
DOMIDS = (1, 2, 3, 4)
_STATES = {RUNNING: "running", SHUTDOWN: "shutdown"}


class Step(NamedTuple):
    """One step.

    Args:
        who: a tool's name, or `d` and a domid.
        what: `send`, or what happens to the client: `create`, `shutdown`, `die`, `reconnect`.
        kind: of the message.
        payload: of the message.
        tx: of the message.
    """

    who: str
    what: str = "send"
    kind: int = 0
    payload: bytes = b""
    tx: int = 0

    def __str__(self) -> str:
        if self.what != "send":
            return f"{self.who} {self.what}"
        return f"{self.who} {xs.XS_NAMES.get(self.kind, self.kind)} {self.payload!r} tx={self.tx}"


Seen = tuple[bytes | str, dict[str, list[tuple[bytes, ...]]]]
"""What a step led to: its answer, and each client's events."""


class Theirs:
    """The C daemon."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.oracle = Oracle(directory, *arguments)
        self._peers: dict[str, Peer] = {name: self.oracle.tool() for name in TOOLS}

    def run(self, step: Step) -> Seen:
        """Takes a step."""
        answer: bytes | str = b""
        domid = int(step.who[1:]) if step.who[0] == "d" else 0
        if step.what == "send":
            answer = self._peers[step.who].send(step.kind, step.payload, step.tx)
            introduced = _introduced(step, answer)
            if introduced:
                # A domain that is introduced once more finds its ring emptied.
                self._peers[f"d{introduced}"] = self.oracle.ring(introduced)
            released = _released(step, answer)
            if released is not None:
                self._peers.pop(f"d{released}").close()
        elif step.what == "create":
            self.oracle.create(domid)
        elif step.what == "reconnect":
            self._peers[step.who].close()
            # Every event of the old connection's end is to be over.
            self._peers[TOOLS[0] if step.who == TOOLS[1] else TOOLS[1]].events()
            self._peers[step.who] = self.oracle.tool()
        else:
            self.oracle.state(domid, 0 if step.what == "die" else SHUTDOWN)
            if step.what == "die" and step.who in self._peers:
                self._peers.pop(step.who).close()
        return answer, {name: peer.events() for name, peer in self._peers.items()}

    def close(self) -> None:
        """Ends it."""
        self.oracle.close()


class Ours:
    """Our store, without the sockets and rings around it."""

    def __init__(self, quotas: Quotas | None = None) -> None:
        self._states: dict[int, int] = {0: RUNNING}
        self._rings = FakeRings()
        self._rings.exists = self._states.__contains__
        self.store = Store(quotas, self._rings, self._states.__contains__)
        self.store.introduce(0, 0, 1)
        self._sessions = {name: Session(0, True, Outbox(lambda: None)) for name in TOOLS}

    def run(self, step: Step) -> Seen:
        """Takes a step."""
        answer: bytes | str = b""
        domid = int(step.who[1:]) if step.who[0] == "d" else 0
        if step.what == "send":
            session = self._sessions[step.who]
            self.store.handle(session, step.kind, 1, step.tx, step.payload)
            answer = self._answer(session)
            introduced = _introduced(step, answer)
            if introduced:
                self._sessions[f"d{introduced}"] = self._rings.sessions[introduced]
            released = _released(step, answer)
            if released is not None:
                del self._sessions[f"d{released}"]
        elif step.what == "create":
            self._states[domid] = RUNNING
        elif step.what == "reconnect":
            self.store.forget(self._sessions[step.who])
            self._sessions[step.who] = Session(0, True, Outbox(lambda: None))
        else:
            if step.what == "die":
                del self._states[domid]
                self._sessions.pop(step.who, None)
            else:
                self._states[domid] = SHUTDOWN
            self.store.mourn(lambda known: _STATES.get(self._states.get(known, 0)))
        return answer, {name: self._events(session) for name, session in self._sessions.items()}

    def is_doomed(self, step: Step) -> bool:
        """Says whether a message is part of a transaction that can no longer commit."""
        session = self._sessions.get(step.who)
        transaction = session.transactions.get(step.tx) if session is not None else None
        return transaction is not None and transaction.conflicts()

    def _answer(self, session: Session) -> bytes | str:
        reader = FrameReader()
        reader.feed(session.outbox.take(1 << 30))
        kept: list[bytes] = []
        answers: list[bytes | str] = []
        while (message := reader.take()) is not None:
            kind, req_id, _, body = message
            if req_id == 0:
                kept.append(body)
            elif kind == xs.XS_ERROR:
                answers.append(body[:-1].decode())
            else:
                answers.append(body)
        for body in kept:
            session.outbox.event(body, True)
        (answer,) = answers
        return answer

    def _events(self, session: Session) -> list[tuple[bytes, ...]]:
        reader = FrameReader()
        reader.feed(session.outbox.take(1 << 30))
        events: list[tuple[bytes, ...]] = []
        while (message := reader.take()) is not None:
            assert message[:3] == (xs.XS_WATCH_EVENT, 0, 0)
            events.append(tuple(message[3].split(b"\0")))
        return events


def _number(payload: bytes) -> int:
    return int(payload.split(b"\0")[0] or b"0")


def _introduced(step: Step, answer: bytes | str) -> int | None:
    if step.kind == xs.XS_INTRODUCE and answer == b"OK\0":
        return _number(step.payload)
    return None


def _released(step: Step, answer: bytes | str) -> int | None:
    if step.kind == xs.XS_RELEASE and answer == b"OK\0":
        return _number(step.payload)
    return None


def compare(step: Step, ours: Seen, theirs: Seen) -> str:
    """Returns how two outcomes differ, or nothing."""
    answers = [ours[0], theirs[0]]
    if step.kind == xs.XS_DIRECTORY_PART:
        # The generation is the daemon's own affair: it only has to change when the listing does.
        answers = [answer.partition(b"\0")[2] if isinstance(answer, bytes) else answer for answer in answers]
    if step.kind == xs.XS_CONTROL and step.payload[:6] == b"quota\0":
        answers = [_held(answer) for answer in answers]
    if step.kind == xs.XS_CONTROL and step.payload[:4] == b"help":
        answers = [b"help" if isinstance(answer, bytes) else answer for answer in answers]
    if answers[0] != answers[1]:
        return f"answers {answers[0]!r}, Xen's {answers[1]!r}"
    if ours[1] != theirs[1]:
        return f"events {ours[1]}, Xen's {theirs[1]}"
    return ""


def _held(answer: bytes | str) -> bytes | str:
    """Returns what a domain holds, less what a transaction takes: its nodes' keys have Xen's generation in them."""
    if isinstance(answer, bytes) and re.search(rb"transactions *: *[1-9]", answer):
        return answer.partition(b"memory")[0]
    return answer


class Writer:
    """Writes a random script, knowing no more than which clients there are."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        # Domains: 0 none, 1 created, 2 introduced.
        self._alive = dict.fromkeys(DOMIDS, 0)
        self._transactions: dict[str, int] = {}
        # Xen releases a target only after whoever acts for it, or never: these do not end.
        self._targets: set[int] = set()

    def steps(self) -> Iterator[Step]:
        """Yields steps without end."""
        yield Step("tool0", "send", xs.XS_WRITE, b"/shared/a\0x")
        for domid in DOMIDS[:2]:
            yield from self._birth(domid)
        while True:
            yield from self._any()

    def _birth(self, domid: int) -> Iterator[Step]:
        self._alive[domid] = 2
        home = b"/local/domain/%d\0" % domid
        yield Step(f"d{domid}", "create")
        yield Step("tool0", "send", xs.XS_WRITE, home)
        yield Step("tool0", "send", xs.XS_SET_PERMS, home + b"n%d\0" % domid)
        yield Step("tool0", "send", xs.XS_INTRODUCE, b"%d\x001\x005\0" % domid)

    def _any(self) -> Iterator[Step]:
        pick = self._random.random()
        if pick < 0.02:
            yield from self._life()
        elif pick < 0.022:
            yield Step(self._random.choice(TOOLS), "reconnect")
        else:
            who = self._who()
            kind, payload = self._message(who)
            tx = 0
            domains = {xs.XS_INTRODUCE, xs.XS_RELEASE}
            if kind not in domains and (self._random.random() < 0.4 or kind == xs.XS_TRANSACTION_END):
                tx = self._random.randint(max(self._transactions.get(who, 0) - 3, 0), self._transactions.get(who, 0))
            if kind == xs.XS_TRANSACTION_START and tx == 0:
                self._transactions[who] = self._transactions.get(who, 0) + 1
            if kind == xs.XS_INTRODUCE and who[0] == "t" and not payload.endswith(b"\x000\0") and tx == 0:
                domid = _number(payload)
                if self._alive.get(domid):
                    self._transactions.pop(f"d{domid}", None)
                    self._alive[domid] = 2
            if kind == xs.XS_RELEASE and _number(payload) in self._targets:
                return
            if kind == xs.XS_RELEASE and who[0] == "t" and tx == 0 and self._alive.get(_number(payload)) == 2:
                self._alive[_number(payload)] = 1
            if kind == xs.XS_SET_TARGET and payload.count(b"\0") == 2:
                self._targets.add(_number(payload.partition(b"\0")[2]))
            yield Step(who, "send", kind, payload, tx)

    def _who(self) -> str:
        clients = list(TOOLS) + [f"d{domid}" for domid, alive in self._alive.items() if alive == 2]
        return self._random.choice(clients)

    def _life(self) -> Iterator[Step]:
        domid = self._random.choice(DOMIDS)
        if self._alive[domid] == 0:
            if self._random.random() < 0.5:
                self._alive[domid] = 1
                yield Step(f"d{domid}", "create")
            else:
                yield from self._birth(domid)
        elif self._random.random() < 0.5:
            yield Step(f"d{domid}", "shutdown")
        elif domid not in self._targets:
            self._alive[domid] = 0
            self._transactions.pop(f"d{domid}", None)
            yield Step(f"d{domid}", "die")

    def _path(self) -> bytes:
        choose = self._random.choice
        names = [b"a", b"b", b"c-1", b"D_2"]
        tail = b"/".join(choose(names) for _ in range(choose([0, 1, 1, 2, 2, 3])))
        head = choose([b"/", b"/shared/", b"/shared/", b"/local/domain/%d/" % choose(DOMIDS), b"", b""])
        path = head + tail
        if self._random.random() < 0.03:
            return choose([b"", b"/", b"//", b"/a/", b"a//b", b"/a b", b"/\xff", b"/tool", b"@x", b"/a.b"])
        if self._random.random() < 0.01:
            return b"/" + b"x" * choose([2046, 2047, 2048])
        return path[:-1] if len(path) > 1 and path.endswith(b"/") else path

    def _perms(self, who: str) -> list[bytes]:
        choose = self._random.choice
        count = choose([1, 1, 2, 2, 3, 6])
        perms = [b"%c%d" % (choose(b"nrwb"), choose((0, 1, 2, 3, 4, 5))) for _ in range(count)]
        if self._random.random() < 0.6:
            perms[0] = b"%c%d" % (choose(b"nrwb"), int(who[1:]) if who[0] == "d" else 0)
        if self._random.random() < 0.03:
            perms.append(choose([b"", b"x1", b"r", b"1", b"r1x", b"r-1", b"n99999"]))
        return perms

    def _value(self) -> bytes:
        if self._random.random() < 0.05:
            return b"v" * self._random.choice([1900, 1980, 2007, 2008, 2015, 2016, 2047, 3000])
        return self._random.choice([b"", b"1", b"text", b"\0", b"a\0b\0", b"\xff\xfe"])

    def _message(self, who: str) -> tuple[int, bytes]:
        choose, path = self._random.choice, self._path()
        kind = choose(_KINDS)
        if self._random.random() < 0.02:
            pieces = [b"/a", b"/shared", b"t", b"0", b"1", b"T", b"-1", b"n0", b"", b"@releaseDomain", b"check"]
            payload = b"\0".join(choose(pieces) for _ in range(choose([0, 1, 2, 3, 4])))
            if kind not in _UNTOUCHED:
                return kind, payload
        if kind == xs.XS_WRITE:
            return kind, (path + b"\0" + self._value())[: xs.XENSTORE_PAYLOAD_MAX]
        if kind in {xs.XS_WATCH, xs.XS_UNWATCH}:
            if self._random.random() < 0.1:
                path = choose([b"@releaseDomain", b"@introduceDomain", b"@other"])
            return kind, path + b"\0" + choose([b"t", b"u"]) + b"\0"
        if kind == xs.XS_SET_PERMS:
            if self._random.random() < 0.05 and who[0] == "t":
                path = choose([b"@releaseDomain", b"@introduceDomain"])
            elif path[:1] == b"@":
                path = b"/"
            perms = self._perms(who)
            if path == b"/" or (path == b"" and who[0] == "d"):
                # When the root's owner ends, Xen takes the whole tree away and is corrupt.
                perms[0] = b"r0"
            return kind, b"".join(part + b"\0" for part in (path, *perms))
        if kind == xs.XS_TRANSACTION_START:
            return kind, choose([b"\0", b"\0", b"", b"x"])
        if kind == xs.XS_TRANSACTION_END:
            return kind, choose([b"T\0"] * 6 + [b"F\0", b"F\0", b"", b"T", b"X\0"])
        if kind in {xs.XS_GET_DOMAIN_PATH, xs.XS_IS_DOMAIN_INTRODUCED, xs.XS_RESUME, xs.XS_RELEASE}:
            return kind, b"%d\0" % choose((0, *DOMIDS, 7, 32752)[kind == xs.XS_RELEASE :])
        if kind == xs.XS_SET_TARGET:
            domid = choose(DOMIDS[1:])
            return kind, b"%d\0%d\0" % (domid, domid - 1)
        if kind == xs.XS_INTRODUCE:
            return kind, b"%d\x001\0%d\0" % (choose((*DOMIDS, 7)), choose([5, 5, 6, 0]))
        if kind == xs.XS_DIRECTORY_PART:
            return kind, path + b"\0" + choose([b"0", b"0", b"2", b"4000", b"-1", b"x", b""]) + b"\0"
        if kind == xs.XS_CONTROL and who[0] == "t" and self._random.random() < 0.7:
            if self._random.random() < 0.2:
                return kind, choose([b"quota\0", b"quota\0set\0watches\x002\0", b"quota\0set\0nodes\0many\0"])
            return kind, b"quota\0%d\0" % choose((*DOMIDS, 7))
        if kind == xs.XS_CONTROL:
            return kind, choose(
                [b"check\0", b"print\0hi\0", b"print\0", b"quota\0nonsense\0x\0", b"log\0x\0", b"\0", b""]
            )
        if kind == xs.XS_RESET_WATCHES:
            return kind, choose([b"\0", b""])
        return kind, path + b"\0"


# Not given arbitrary arguments: those that change which clients there are, and those that answer with the errno of
# whatever came before, or abort, when their one argument is not one string.
_UNTOUCHED = {
    xs.XS_INTRODUCE, xs.XS_RELEASE, xs.XS_CONTROL,
    xs.XS_SET_TARGET, xs.XS_READ, xs.XS_DIRECTORY, xs.XS_GET_PERMS, xs.XS_MKDIR, xs.XS_RM, xs.XS_SET_PERMS,
}  # fmt: skip
_KINDS = (
    [xs.XS_READ, xs.XS_DIRECTORY, xs.XS_GET_PERMS, xs.XS_MKDIR, xs.XS_TRANSACTION_END] * 4
    + [xs.XS_WRITE] * 10
    + [xs.XS_RM, xs.XS_SET_PERMS, xs.XS_WATCH, xs.XS_TRANSACTION_START] * 5
    + [xs.XS_UNWATCH, xs.XS_DIRECTORY_PART] * 2
    + [xs.XS_CONTROL] * 2
    + [xs.XS_GET_DOMAIN_PATH, xs.XS_IS_DOMAIN_INTRODUCED, xs.XS_SET_TARGET, xs.XS_CONTROL, xs.XS_RESET_WATCHES]
    + [xs.XS_INTRODUCE, xs.XS_RESUME, xs.XS_RELEASE, xs.XS_ERROR, 20, 23, 99]
)
