"""The store answers as a simple model does, whatever two clients do in and out of transactions.

The model knows nothing of sharing, generations or journals: a transaction is a copy of everything that
it has looked at, compared with the present at its end.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from tests.unit.store.harness import OK, Client, World

NAMES = ["a", "b", "c"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
values = st.binary(max_size=3)


@dataclass
class ModelNode:
    value: bytes = b""
    children: list[str] = field(default_factory=list)
    # Any change of the node makes it another one.
    version: int = 0


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class Model:
    """Nodes by path, for privileged clients."""

    def __init__(self) -> None:
        self.nodes: dict[str, ModelNode] = {"/": ModelNode(children=["tool"])}
        self.clock = 0

    def touch(self, node: ModelNode) -> None:
        self.clock += 1
        node.version = self.clock

    def find(self, view: ModelView, path: str) -> ModelNode | None:
        node = view.look(path)
        above = path
        while node is None and view.look(above) is None:
            above = parent_of(above)
        return node


class ModelView:
    """The tree, or a transaction on it."""

    def __init__(self, model: Model, isolated: bool) -> None:
        self.model = model
        self.seen: dict[str, int | None] = {}
        self.own: dict[str, ModelNode | None] = {}
        self.isolated = isolated
        self.written: set[str] = set()
        self.fired: dict[str, bool] = {}

    def look(self, path: str) -> ModelNode | None:
        if not self.isolated:
            return self.model.nodes.get(path)
        if path not in self.seen:
            node = self.model.nodes.get(path)
            self.seen[path] = None if node is None else node.version
            self.own[path] = copy.deepcopy(node)
        return self.own[path]

    def put(self, path: str, node: ModelNode | None) -> None:
        self.written.add(path)
        if self.isolated:
            self.own[path] = node
        elif node is None:
            del self.model.nodes[path]
        else:
            self.model.nodes[path] = node

    def read(self, path: str) -> bytes | str:
        node = self.model.find(self, path)
        return "ENOENT" if node is None else node.value

    def ls(self, path: str) -> list[str] | str:
        node = self.model.find(self, path)
        return "ENOENT" if node is None else list(node.children)

    def make(self, path: str, value: bytes) -> None:
        parent = self.look(parent_of(path))
        if parent is None:
            self.make(parent_of(path), b"")
            parent = self.look(parent_of(path))
        assert parent is not None
        name = path.rpartition("/")[2]
        if name not in parent.children:
            parent.children.append(name)
        self.model.touch(parent)
        self.put(parent_of(path), parent)
        node = ModelNode(value)
        self.model.touch(node)
        self.put(path, node)

    def write(self, path: str, value: bytes) -> bytes:
        node = self.model.find(self, path)
        if node is None:
            self.make(path, value)
        else:
            node.value = value
            self.model.touch(node)
            self.put(path, node)
        return OK

    def mkdir(self, path: str) -> bytes:
        if self.model.find(self, path) is None:
            self.make(path, b"")
        return OK

    def rm(self, path: str) -> bytes | str:
        node = self.model.find(self, path)
        parent = self.look(parent_of(path))
        if node is None:
            return "ENOENT" if parent is None else OK
        self.remove_below(path)
        if parent is None:
            return OK
        name = path.rpartition("/")[2]
        if name in parent.children:
            parent.children.remove(name)
        self.model.touch(parent)
        self.put(parent_of(path), parent)
        return OK

    def remove_below(self, path: str) -> None:
        node = self.look(path)
        assert node is not None
        for name in node.children:
            if self.look(f"{path}/{name}") is not None:
                self.remove_below(f"{path}/{name}")
        self.put(path, None)

    def commit(self) -> bytes | str:
        nodes = self.model.nodes
        for path, version in self.seen.items():
            now = nodes.get(path)
            if (None if now is None else now.version) != version:
                return "EAGAIN"
        for path in self.written:
            node = self.own[path]
            if node is None:
                nodes.pop(path, None)
            else:
                nodes[path] = node
        return OK


@dataclass
class Actor:
    client: Client
    tx: int
    view: ModelView


class StoreAgainstModel(RuleBasedStateMachine):
    """Two tools, each in or out of transactions."""

    actors: Bundle[Actor] = Bundle("actors")

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.model = Model()
        self.model.nodes["/tool"] = ModelNode(children=["xenstored"])
        self.model.nodes["/tool/xenstored"] = ModelNode()
        self.clients = [self.world.dom0, self.world.tool()]

    @rule(target=actors, who=st.integers(0, 1))
    def start(self, who: int) -> Actor:
        client = self.clients[who]
        return Actor(client, client.start(), ModelView(self.model, True))

    @rule(target=actors, who=st.integers(0, 1))
    def without_transaction(self, who: int) -> Actor:
        return Actor(self.clients[who], 0, ModelView(self.model, False))

    @rule(actor=actors, path=paths)
    def read(self, actor: Actor, path: str) -> None:
        assert actor.client.read(path, actor.tx) == actor.view.read(path)

    @rule(actor=actors, path=paths | st.just("/"))
    def ls(self, actor: Actor, path: str) -> None:
        assert actor.client.ls(path, actor.tx) == actor.view.ls(path)

    @rule(actor=actors, path=paths, value=values)
    def write(self, actor: Actor, path: str, value: bytes) -> None:
        assert actor.client.write(path, value, actor.tx) == actor.view.write(path, value)

    @rule(actor=actors, path=paths)
    def mkdir(self, actor: Actor, path: str) -> None:
        assert actor.client.mkdir(path, actor.tx) == actor.view.mkdir(path)

    @rule(actor=actors, path=paths)
    def rm(self, actor: Actor, path: str) -> None:
        assert actor.client.rm(path, actor.tx) == actor.view.rm(path)

    @rule(actor=consumes(actors), commit=st.booleans())
    def end(self, actor: Actor, commit: bool) -> None:
        if not actor.tx:
            return
        expected = actor.view.commit() if commit else OK
        assert actor.client.end(actor.tx, commit) == expected

    @invariant()
    def same_tree(self) -> None:
        if not hasattr(self, "world"):
            return
        dump = {path.decode(): (value, names) for path, (value, _, names) in self.world.dump().items()}
        assert dump == {
            path: (node.value, [name.encode() for name in node.children]) for path, node in self.model.nodes.items()
        }


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
