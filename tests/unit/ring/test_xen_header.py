"""Our ends against Xen's own ring.h, in lockstep: the same answers, and the same bytes in the page.

Four pages live the same life: both ends ours, both ends Xen's, and the two mixtures.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.abi.c_compiler import HEADERS, need
from tests.core.effort import EXAMPLES
from tests.unit.ring.pages import FIRST_INDICES, U32, entries
from xenlike.ring import XEN, BackRing, FrontRing, stride

pytestmark = pytest.mark.interop

#: name in xen_ring.c: (request size, response size, sizeof the union)
RINGS = {
    "blk": (112, 16, 112),
    "net": (12, 4, 12),
    "line": (64, 64, 64),
    "odd": (5, 9, 9),
    "padded": (12, 8, 16),
}
COUNT = st.integers(0, 70)


class XenEnds:
    """The front and the back of one page, as Xen's macros keep them."""

    library: ctypes.CDLL

    def __init__(self, name: str, page: bytearray) -> None:
        self.name = name
        self._page = (ctypes.c_char * len(page)).from_buffer(page)
        self._ends = ctypes.create_string_buffer(self.call("bytes"))
        self.request, self.response, _ = RINGS[name]

    def call(self, what: str, *arguments: object) -> int:
        result: int = getattr(self.library, f"{self.name}_{what}")(*arguments)
        return result

    def init(self, first: int) -> int:
        return self.call("init", self._ends, self._page, len(self._page), ctypes.c_uint32(first))

    def attach(self, side: str) -> None:
        self.call(f"attach_{side}", self._ends, self._page, len(self._page))

    def push(self, side: str, data: bytes, count: int) -> tuple[int, bool]:
        notify = ctypes.c_int()
        taken = self.call(f"{side}_push", self._ends, data, count, ctypes.byref(notify))
        return taken, bool(notify.value)

    def pop(self, side: str, limit: int) -> bytes:
        size = self.request if side == "back" else self.response
        out = ctypes.create_string_buffer(limit * size + 1)
        count = self.call(f"{side}_pop", self._ends, out, limit)
        return out.raw[: count * size]

    def arm(self, side: str) -> bool:
        return bool(self.call(f"{side}_arm", self._ends))


class OurEnds:
    """The same verbs for our ends."""

    def __init__(self, name: str, page: bytearray) -> None:
        self.page = page
        self.request, self.response, self.entry = RINGS[name]
        self.ends: dict[str, FrontRing | BackRing] = {}

    def init(self, first: int) -> int:
        front = FrontRing(self.page, XEN, self.request, self.response, entry_size=self.entry, first_index=first)
        self.ends["front"] = front
        return front.size

    def attach(self, side: str) -> None:
        assert side == "back"
        self.ends["back"] = BackRing(self.page, XEN, self.request, self.response, entry_size=self.entry)

    def push(self, side: str, data: bytes, count: int) -> tuple[int, bool]:
        end = self.ends[side]
        return end.push(data, count), end.kick()

    def pop(self, side: str, limit: int) -> bytes:
        size = self.request if side == "back" else self.response
        out = bytearray(max(limit, 1) * size)
        count = self.ends[side].pop(out, limit)
        return bytes(out[: count * size])

    def arm(self, side: str) -> bool:
        end = self.ends[side]
        assert isinstance(end, (FrontRing, BackRing))
        return end.arm()


class LockstepMachine(RuleBasedStateMachine):
    """Every operation is done in all four worlds, and every answer is compared."""

    worlds: list[dict[str, XenEnds | OurEnds]]

    @initialize(
        name=st.sampled_from(sorted(RINGS)),
        order=st.integers(0, 1),
        first=st.sampled_from(FIRST_INDICES) | st.integers(0, U32 - 1),
    )
    def start(self, name: str, order: int, first: int) -> None:
        self.request, self.response, entry = RINGS[name]
        self.pages = [bytearray(4096 << order) for _ in range(4)]
        self.worlds = []
        sizes = []
        for number, page in enumerate(self.pages):
            front = (OurEnds if number & 1 else XenEnds)(name, page)
            back = (OurEnds if number & 2 else XenEnds)(name, page)
            sizes.append(front.init(first))
            back.attach("back")
            self.worlds.append({"front": front, "back": back})
            if isinstance(front, XenEnds):
                assert front.call("stride") == stride(XEN, entry)
        assert len(set(sizes)) == 1
        self.made = 0

    def all(self, what: str, side: str, *arguments: object) -> object:
        answers = [getattr(world[side], what)(side, *arguments) for world in self.worlds]
        assert answers[1:] == answers[:-1], (what, side, arguments)
        return answers[0]

    @precondition(lambda self: hasattr(self, "worlds"))
    @rule(side=st.sampled_from(["front", "back"]), count=COUNT)
    def push(self, side: str, count: int) -> None:
        self.made += count
        data = entries(self.made, count, self.request if side == "front" else self.response)
        self.all("push", side, data, count)

    @precondition(lambda self: hasattr(self, "worlds"))
    @rule(side=st.sampled_from(["front", "back"]), limit=COUNT)
    def pop(self, side: str, limit: int) -> None:
        self.all("pop", side, limit)

    @precondition(lambda self: hasattr(self, "worlds"))
    @rule(side=st.sampled_from(["front", "back"]))
    def arm(self, side: str) -> None:
        self.all("arm", side)

    @invariant()
    def pages_are_equal(self) -> None:
        if hasattr(self, "worlds"):
            for page in self.pages[1:]:
                assert page == self.pages[0]


@pytest.fixture(scope="module", autouse=True)
def xen_ring(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiles xen_ring.c against the installed headers."""
    compiler = shutil.which("gcc") or ""
    need("gcc", bool(compiler))
    need("libxen-dev", (HEADERS / "io" / "ring.h").exists())
    built = tmp_path_factory.mktemp("xen") / "xen_ring.so"
    source = Path(__file__).with_name("xen_ring.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(built), str(source)], check=True)
    XenEnds.library = ctypes.CDLL(str(built))


TestLockstep = LockstepMachine.TestCase
TestLockstep.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
