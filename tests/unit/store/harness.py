"""A store without I/O, and clients that talk to it in the wire's own messages."""

from __future__ import annotations

from collections.abc import Callable

from xenlike.abi import xs_wire as xs
from xenlike.domain.store_wire import FrameReader
from xenlike.xenstored.rules import Quotas, Refused
from xenlike.xenstored.sessions import Outbox, Session
from xenlike.xenstored.store import Store


class FakeRings:
    """Rings without pages: attaching makes a session and nothing else."""

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        self.refuse: str | None = None
        self.exists: Callable[[int], bool] | None = None
        self.rebound: list[tuple[int, int]] = []

    def attach(self, domid: int, port: int) -> Session:
        if self.refuse is not None:
            raise Refused(self.refuse)
        if self.exists is not None and not self.exists(domid):
            raise Refused("EINVAL")
        session = self.sessions[domid] = Session(domid, domid == 0, Outbox(lambda: None))
        return session

    def rebind(self, domid: int, port: int) -> bool:
        if self.refuse is not None:
            raise Refused(self.refuse)
        self.rebound.append((domid, port))
        return True

    def detach(self, domid: int) -> None:
        del self.sessions[domid]


class Client:
    """One client. Methods return the answer's payload, or the error's name as text."""

    def __init__(self, store: Store, session: Session) -> None:
        self.store = store
        self.session = session
        self._reader = FrameReader()
        self._events: list[tuple[str, str]] = []
        self._next = 1

    def send(self, kind: int, payload: bytes, tx: int = 0) -> bytes | str:
        req_id = self._next
        self._next += 1
        self.store.handle(self.session, kind, req_id, tx, payload)
        answers = [m for m in self._take() if m[0] != xs.XS_WATCH_EVENT]
        assert len(answers) == 1, answers
        got, echoed, tx_id, body = answers[0]
        assert (echoed, tx_id) == (req_id, tx)
        if got == xs.XS_ERROR:
            assert body.endswith(b"\0")
            name = body[:-1].decode()
            assert name in xs.XSD_ERRORS
            return name
        assert got == kind
        assert len(body) <= xs.XENSTORE_PAYLOAD_MAX
        return body

    def _take(self) -> list[tuple[int, int, int, bytes]]:
        self._reader.feed(self.session.outbox.take(1 << 30))
        taken = []
        while (message := self._reader.take()) is not None:
            taken.append(message)
            if message[0] == xs.XS_WATCH_EVENT:
                path, token, rest = message[3].split(b"\0")
                assert (message[1], message[2], rest) == (0, 0, b"")
                self._events.append((path.decode(), token.decode()))
        return taken

    def events(self) -> list[tuple[str, str]]:
        """Events since the last call, as (path, token)."""
        self._take()
        events, self._events = self._events, []
        return events

    def read(self, path: str, tx: int = 0) -> bytes | str:
        return self.send(xs.XS_READ, path.encode() + b"\0", tx)

    def write(self, path: str, value: str | bytes = b"", tx: int = 0) -> bytes | str:
        data = value.encode() if isinstance(value, str) else value
        return self.send(xs.XS_WRITE, path.encode() + b"\0" + data, tx)

    def mkdir(self, path: str, tx: int = 0) -> bytes | str:
        return self.send(xs.XS_MKDIR, path.encode() + b"\0", tx)

    def rm(self, path: str, tx: int = 0) -> bytes | str:
        return self.send(xs.XS_RM, path.encode() + b"\0", tx)

    def ls(self, path: str, tx: int = 0) -> list[str] | str:
        answer = self.send(xs.XS_DIRECTORY, path.encode() + b"\0", tx)
        return answer if isinstance(answer, str) else [name.decode() for name in answer.split(b"\0")[:-1]]

    def get_perms(self, path: str, tx: int = 0) -> list[str] | str:
        answer = self.send(xs.XS_GET_PERMS, path.encode() + b"\0", tx)
        return answer if isinstance(answer, str) else [perm.decode() for perm in answer.split(b"\0")[:-1]]

    def set_perms(self, path: str, *perms: str, tx: int = 0) -> bytes | str:
        return self.send(xs.XS_SET_PERMS, b"".join(part.encode() + b"\0" for part in (path, *perms)), tx)

    def watch(self, path: str, token: str = "t") -> bytes | str:
        return self.send(xs.XS_WATCH, f"{path}\0{token}\0".encode())

    def unwatch(self, path: str, token: str = "t") -> bytes | str:
        return self.send(xs.XS_UNWATCH, f"{path}\0{token}\0".encode())

    def start(self) -> int:
        answer = self.send(xs.XS_TRANSACTION_START, b"\0")
        assert isinstance(answer, bytes), answer
        return int(answer[:-1])

    def end(self, tx: int, commit: bool = True) -> bytes | str:
        return self.send(xs.XS_TRANSACTION_END, b"T\0" if commit else b"F\0", tx)


OK = b"OK\0"


class World:
    """A store, domain 0 on a socket, and as many domains as are asked for."""

    def __init__(self, quotas: Quotas | None = None, exists: Callable[[int], bool] | None = None) -> None:
        self.rings = FakeRings()
        self.rings.exists = exists
        self.store = Store(quotas, self.rings, exists)
        self.dom0 = self.tool()

    def tool(self) -> Client:
        return Client(self.store, Session(0, True, Outbox(lambda: None)))

    def domain(self, domid: int) -> Client:
        """Introduces a domain that may do what it likes below its home."""
        home = f"/local/domain/{domid}"
        assert self.dom0.write(home) == OK
        assert self.dom0.set_perms(home, f"n{domid}") == OK
        answer = self.dom0.send(xs.XS_INTRODUCE, b"%d\x001\x005\0" % domid)
        assert answer == OK, answer
        return Client(self.store, self.rings.sessions[domid])

    def dump(self) -> dict[bytes, tuple[bytes, list[str], list[bytes]]]:
        """Everything that a tool could see."""
        return {
            path: (node.value, [str(perm) for perm in node.perms], list(node.children))
            for path, node in self.store.tree.nodes.items()
        }
