"""A transaction: a view that keeps its changes to itself until it commits.

Each node is captured when the transaction first looks at it, whether to read or to write it, and
also where it looked and found nothing. The commit succeeds only if every captured node is still the
one that was captured. A node that was never looked at may change freely.
"""

from __future__ import annotations

from xenlike.xenstored.rules import Perms, Refused
from xenlike.xenstored.tree import Node, Tree, View

__all__ = ["Captured", "Transaction"]


class Captured:
    """A node as a transaction found it, and as it left it."""

    __slots__ = ("path", "base", "node", "modified", "fires", "exact")

    def __init__(self, path: bytes, base: Node | None) -> None:
        self.path = path
        self.base = base
        self.node = base
        self.modified = False
        self.fires = False
        self.exact = False


class Transaction(View):
    """One transaction of one client.

    Args:
        tree: the committed tree.
        tx_id: what its client calls it.
        limit: how many nodes it may look at; 0 for no limit.
    """

    __slots__ = (
        *("tx_id", "captured", "journal", "charges", "created", "failed", "memory"),
        *("_prefix", "_tree", "_limit"),
    )

    def __init__(self, tree: Tree, tx_id: int, limit: int) -> None:
        self.tx_id = tx_id
        self.captured: dict[bytes, Captured] = {}
        self.journal = None if tree.journal is None else []
        # Nodes gained or lost per owner, if it commits.
        self.charges: dict[int, int] = {}
        self.created = False
        # An operation failed half-way, so this can no longer commit.
        self.failed = False
        # Bytes of the copies it has made of nodes; they are its client's, whoever owns the nodes.
        self.memory = 0
        self._prefix = len(str(tree.next_generation())) + 1
        self._tree = tree
        self._limit = limit

    def read(self, path: bytes) -> Node | None:
        """Returns the node as this transaction has it, and captures it.

        Raises:
            Refused: ENOSPC when it has captured too many.
        """
        known = self.captured.get(path)
        if known is not None:
            return known.node
        if self._limit and len(self.captured) >= self._limit:
            self.failed = True
            raise Refused("ENOSPC")
        node = self._tree.nodes.get(path)
        if node is not None:
            node.shared = True
            self.memory += node.size + self.key_size(path)
        self.captured[path] = Captured(path, node)
        return node

    def fire(self, path: bytes, exact: bool) -> None:
        """Notes that watches of a changed node fire at the commit."""
        known = self.captured[path]
        known.exact = exact and (known.exact or not known.fires)
        known.fires = True

    def conflicts(self) -> bool:
        """Says whether a captured node was changed by somebody else."""
        find = self._tree.nodes.get
        for path, known in self.captured.items():  # noqa: SIM110 - a generator costs more than most transactions
            if find(path) is not known.base:
                return True
        return False

    def commit(self, known: Captured) -> None:
        """Makes one changed node visible to everybody."""
        if known.node is not known.base:
            self._tree.install(known.path, known.node)

    def key_size(self, path: bytes) -> int:
        """Returns the length of the path with the number that Xen puts before it."""
        return len(path) + self._prefix

    def _grow(self, owner: int, change: int) -> None:
        self.memory += change

    def live(self, perms: Perms, generation: int) -> Perms:
        """Returns permissions with the entries that meant a domain which has ended made to mean nobody."""
        return self._tree.live(perms, generation)

    def _own(self, path: bytes) -> Node:
        known = self.captured[path]
        node = known.node
        if node is None:
            raise KeyError(path)
        if node is known.base:
            node = known.node = node.copy()
        node.perms = self._tree.live(node.perms, node.generation)
        node.generation = self._tree.next_generation()
        known.modified = True
        return node

    def _insert(self, path: bytes, value: bytes, perms: Perms) -> None:
        known = self.captured[path]
        known.node = Node(value, perms, self._tree.next_generation())
        known.modified = True
        self.memory += known.node.size + self.key_size(path)
        self.created = True
        self._charge(path, perms[0].domid, 0)

    def _discard(self, path: bytes, node: Node) -> None:
        known = self.captured[path]
        known.node = None
        known.modified = True
        self.memory -= node.size + self.key_size(path)
        self._tree.next_generation()
        self._charge(path, 0, node.owner)

    def _charge(self, path: bytes, owner: int, previous: int) -> None:
        for domid, change in ((previous, -1), (owner, 1)):
            if domid:
                self.charges[domid] = self.charges.get(domid, 0) + change
