"""The tree: nodes by absolute path, in one dictionary.

A node object that somebody else may be holding is never changed: a transaction marks the nodes it
has seen as shared, and the next change of a shared node puts a copy in its place. So a transaction
knows that a node is as it saw it exactly when the tree still holds the same object.

Every change takes the next generation number and gives it to the node.
"""

from __future__ import annotations

from collections.abc import Iterator

from xenlike.domain.store_wire import Perm
from xenlike.xenstored import records
from xenlike.xenstored.rules import Perms, parent_of, unhand

__all__ = ["Node", "Tree", "View"]

# Xen charges a node for its record's header and 8 bytes an entry of permissions.
_HEADER_SIZE = 24
_PERM_SIZE = 8


class Node:
    """A value, permissions, and the names of the children in the order of their creation."""

    __slots__ = ("value", "perms", "children", "children_size", "generation", "shared")

    def __init__(self, value: bytes, perms: Perms, generation: int) -> None:
        self.value = value
        self.perms = perms
        self.children: dict[bytes, None] = {}
        self.children_size = 0
        self.generation = generation
        self.shared = False

    @property
    def owner(self) -> int:
        """The domain that is charged for the node."""
        return self.perms[0].domid

    @property
    def size(self) -> int:
        """Bytes, as Xen's quota counts them."""
        return _HEADER_SIZE + _PERM_SIZE * len(self.perms) + len(self.value) + self.children_size

    def copy(self) -> Node:
        """Returns a node of its own that says the same."""
        twin = Node(self.value, self.perms, self.generation)
        twin.children = self.children.copy()
        twin.children_size = self.children_size
        return twin

    def listing(self) -> bytes:
        """Returns the children as the wire has them: every name followed by a NUL."""
        return b"\0".join(self.children) + b"\0" if self.children else b""


class View:
    """What can be done to a tree, by a transaction or directly.

    The subclasses say where a node is found and where a change goes. `journal` collects the records
    of all changes, in order; None where nobody keeps a log.

    A transaction that has captured a parent, but its child only after somebody else removed or made
    it, sees a listing that does not fit. It cannot commit any more, so any answer will do; where Xen
    says EIO, this goes on, and the client learns at the end that it is to try again.
    """

    __slots__ = ()

    journal: list[bytes] | None

    def read(self, path: bytes) -> Node | None:
        """Returns the node, not to be changed, or None."""
        raise NotImplementedError

    def _own(self, path: bytes) -> Node:
        """Returns an existing node for changing, with a new generation."""
        raise NotImplementedError

    def _insert(self, path: bytes, value: bytes, perms: Perms) -> None:
        """Puts a new node where none is; the parent already lists it."""
        raise NotImplementedError

    def _discard(self, path: bytes, node: Node) -> None:
        """Takes a node away; its children are gone, the parent still lists it."""
        raise NotImplementedError

    def _charge(self, path: bytes, owner: int, previous: int) -> None:
        """Notes that a node changes hands."""
        raise NotImplementedError

    def _grow(self, owner: int, change: int) -> None:
        """Notes that an owner's nodes take more room, or less."""
        raise NotImplementedError

    def key_size(self, path: bytes) -> int:
        """Returns what a node costs beyond its own size: its key in Xen's data base."""
        raise NotImplementedError

    def live(self, perms: Perms, generation: int) -> Perms:
        """Returns permissions with the entries that meant a domain which has ended made to mean nobody."""
        raise NotImplementedError

    def write(self, path: bytes, value: bytes) -> None:
        """Changes the value of an existing node."""
        node = self._own(path)
        self._grow(node.perms[0].domid, len(value) - len(node.value))
        node.value = value
        if self.journal is not None:
            self.journal.append(records.put(path, value, node.perms))

    def set_perms(self, path: bytes, perms: Perms) -> None:
        """Changes the permissions of an existing node."""
        node = self._own(path)
        if node.owner != perms[0].domid:
            self._charge(path, perms[0].domid, node.owner)
        self._grow(node.owner, -node.size - self.key_size(path))
        node.perms = perms
        self._grow(node.owner, node.size + self.key_size(path))
        if self.journal is not None:
            self.journal.append(records.put(path, node.value, perms))

    def create(self, path: bytes, value: bytes, perms: Perms) -> None:
        """Adds a node under an existing parent."""
        parent = self._own(parent_of(path))
        name = path[path.rfind(b"/") + 1 :]
        if name not in parent.children:
            parent.children[name] = None
            parent.children_size += len(name) + 1
            self._grow(parent.perms[0].domid, len(name) + 1)
        self._insert(path, value, perms)
        if self.journal is not None:
            self.journal.append(records.put(path, value, perms))

    def remove(self, path: bytes) -> list[tuple[bytes, Node]]:
        """Takes away a node and all below it. Not for the root.

        Returns:
            what was removed, children before their parents.
        """
        parent_path = parent_of(path)
        has_parent = self.read(parent_path) is not None
        removed = list(self._walk(path))
        for gone, node in removed:
            self._discard(gone, node)
        if has_parent:
            parent = self._own(parent_path)
            name = path[path.rfind(b"/") + 1 :]
            if name in parent.children:
                del parent.children[name]
                parent.children_size -= len(name) + 1
                self._grow(parent.perms[0].domid, -len(name) - 1)
        if self.journal is not None:
            self.journal.append(records.remove(path))
        return removed

    def _walk(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        """Goes through a subtree, children before parents, in the order of the listings."""
        top = self.read(path)
        if top is None:
            return
        stack: list[tuple[bytes, Node, Iterator[bytes]]] = [(path, top, iter(tuple(top.children)))]
        while stack:
            here, node, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                yield here, node
                continue
            below = (here if here != b"/" else b"") + b"/" + name
            child = self.read(below)
            if child is not None:
                stack.append((below, child, iter(tuple(child.children))))


class Tree(View):
    """The committed tree."""

    def __init__(self) -> None:
        self.generation = 0
        self.journal = None
        self.nodes: dict[bytes, Node] = {b"/": Node(b"", (Perm(0, "n"),), 0)}
        # Paths by owner. Domain 0 is not charged, and most nodes are its own.
        self._owned: dict[int, dict[bytes, None]] = {}
        # Bytes of nodes by owner.
        self.memory: dict[int, int] = {}
        self.dead: dict[int, int] = {}

    def read(self, path: bytes) -> Node | None:
        """Returns the node, or None."""
        return self.nodes.get(path)

    def next_generation(self) -> int:
        """Returns a number that no node has had."""
        self.generation += 1
        return self.generation

    def count(self, domid: int) -> int:
        """Returns how many nodes an unprivileged domain owns."""
        return len(self._owned.get(domid, ()))

    def owned(self, domid: int) -> list[bytes]:
        """Returns the subtrees whose tops an unprivileged domain owns, in the order of the listings.

        The root is not among them: it belongs to whoever it was given to, but never goes away.
        """
        owned = self._owned.get(domid)
        if not owned:
            return []
        # Only what leads to such a node is looked at.
        leading = {b"/"}
        for path in owned:
            above = parent_of(path)
            while above not in leading:
                leading.add(above)
                above = parent_of(above)
        tops = []
        stack = [b"/"]
        while stack:
            path = stack.pop()
            if path in owned and path != b"/":
                tops.append(path)
            elif path in leading:
                base = path if path != b"/" else b""
                below = [base + b"/" + name for name in reversed(self.nodes[path].children)]
                stack += [child for child in below if child in owned or child in leading]
        return tops

    def install(self, path: bytes, node: Node | None) -> None:
        """Puts what a transaction made of a node in its place: the commit of one node."""
        previous = self.nodes.get(path)
        if node is None:
            del self.nodes[path]
        else:
            self.nodes[path] = node
        old = previous.owner if previous is not None else 0
        new = node.owner if node is not None else 0
        if old != new:
            self._charge(path, new, old)
        if previous is not None and old:
            self._grow(old, -previous.size - len(path))
        if node is not None and new:
            self._grow(new, node.size + len(path))

    def end_domain(self, domid: int) -> list[bytes]:
        """Makes all that names a domid mean nobody, because the domain ended.

        Returns:
            the subtrees that it owned, for the caller to remove.
        """
        self.dead[domid] = self.generation
        return self.owned(domid)

    def apply(self, record: records.Put | records.Remove) -> None:
        """Makes a change of the log once more."""
        node = self.nodes.get(record.path)
        if isinstance(record, records.Put):
            if node is None:
                self.create(record.path, record.value, record.perms)
            else:
                self.write(record.path, record.value)
                self.set_perms(record.path, record.perms)
        elif node is not None:
            self.remove(record.path)

    def snapshot(self) -> Iterator[bytes]:
        """Yields records that make this tree out of an empty one."""
        stack = [b"/"]
        while stack:
            path = stack.pop()
            node = self.nodes[path]
            yield records.put(path, node.value, self.live(node.perms, node.generation))
            base = path if path != b"/" else b""
            stack += [base + b"/" + name for name in reversed(node.children)]

    def live(self, perms: Perms, generation: int) -> Perms:
        """Returns permissions with the entries of domains that have ended made to mean nobody."""
        if len(perms) == 1 or not self.dead:
            return perms
        dead = self.dead
        return (perms[0], *(unhand(p) if generation <= dead.get(p.domid, -1) else p for p in perms[1:]))

    def _own(self, path: bytes) -> Node:
        node = self.nodes[path]
        if node.shared:
            node = self.nodes[path] = node.copy()
        if len(node.perms) > 1:
            node.perms = self.live(node.perms, node.generation)
        self.generation = node.generation = self.generation + 1
        return node

    def _insert(self, path: bytes, value: bytes, perms: Perms) -> None:
        node = self.nodes[path] = Node(value, perms, self.next_generation())
        if perms[0].domid:
            self._charge(path, perms[0].domid, 0)
            self._grow(perms[0].domid, node.size + len(path))

    def _discard(self, path: bytes, node: Node) -> None:
        del self.nodes[path]
        self.next_generation()
        if node.owner:
            self._charge(path, 0, node.owner)
            self._grow(node.owner, -node.size - len(path))

    def _grow(self, owner: int, change: int) -> None:
        if owner:
            memory = self.memory.get(owner, 0) + change
            if memory:
                self.memory[owner] = memory
            else:
                self.memory.pop(owner, None)

    def key_size(self, path: bytes) -> int:
        """Returns the length of the path."""
        return len(path)

    def _charge(self, path: bytes, owner: int, previous: int) -> None:
        if previous:
            paths = self._owned[previous]
            del paths[path]
            if not paths:
                del self._owned[previous]
        if owner:
            self._owned.setdefault(owner, {})[path] = None
