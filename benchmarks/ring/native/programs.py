"""The contestants: what each is compiled from, and whether this host can."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenlike import _core

HERE = Path(__file__).resolve().parent
CORE = Path(_core.__file__).resolve().parent

# -O3 for all alike: it is what unrolls the loops that fill and compare entries.
_FLAGS = ("-O3", "-Wall", "-fno-strict-aliasing")
_OURS = tuple(str(CORE / name) for name in ("xl_ring.c", "xl_recorder.c", "xl_spin.c", "xl_process.c", "xl_event.c"))


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way of moving entries.

    Attributes:
        name: as tables have it.
        source: its file in this folder.
        modes: what it can do: `reqrsp`, `roundtrip`, `oneway`.
        flags: for the compiler, besides those that all have.
        links: what it is linked with.
        asymmetric: the producer has no fence, the sleeper a membarrier and a grace period.
        package: the Debian package that it needs, if any.
        slots: how many a ring of it can have; empty for any.
    """

    name: str
    source: str
    modes: tuple[str, ...]
    flags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    asymmetric: bool = False
    package: str = ""
    slots: tuple[int, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it is one of this project's."""
        return self.source == "xl.c"


def _ours(name: str, layout: str, *, asymmetric: bool = False) -> Contestant:
    modes = ("reqrsp", "roundtrip") if layout == "TAG" or asymmetric else ("reqrsp", "roundtrip", "oneway")
    return Contestant(name, "xl.c", modes, (f"-DLAYOUT=XL_LAYOUT_{layout}",), _OURS, asymmetric)


XEN = _ours("xen", "XEN")
CACHELINE = _ours("cacheline", "CACHELINE")
TAG = _ours("tag", "TAG")
XEN_ASYMMETRIC = _ours("xen, asymmetric fence", "XEN", asymmetric=True)
CACHELINE_ASYMMETRIC = _ours("cacheline, asymmetric fence", "CACHELINE", asymmetric=True)
TAG_ASYMMETRIC = _ours("tag, asymmetric fence", "TAG", asymmetric=True)
RING_H = Contestant(
    "ring.h", "xen_ring.c", ("reqrsp", "roundtrip"), ("-Wno-sign-compare",), _OURS, package="libxen-dev"
)
BOOST = Contestant(
    "boost spsc_queue", "boost_spsc.cc", ("oneway",), package="libboost-dev", slots=(32, 64, 128, 256, 1024)
)
RTE_RING = Contestant(
    # Its headers want SSE 4.2 of x86.
    "DPDK rte_ring",
    "rte_ring.c",
    ("oneway",),
    ("-march=x86-64-v2", "-I/usr/include/dpdk", "-I/usr/include/x86_64-linux-gnu/dpdk")
    if os.uname().machine == "x86_64"
    else ("-I/usr/include/dpdk", "-I/usr/include/aarch64-linux-gnu/dpdk"),
    ("-lrte_ring", "-lrte_eal"),
    package="libdpdk-dev",
)

CONTESTANTS = (
    XEN,
    CACHELINE,
    TAG,
    XEN_ASYMMETRIC,
    CACHELINE_ASYMMETRIC,
    TAG_ASYMMETRIC,
    RING_H,
    BOOST,
    RTE_RING,
)


class Programs:
    """Compiled contestants in a folder; two with the same flags share a program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[object, ...], Path | str] = {}

    def make(self, wanted: Sequence[tuple[Contestant, int]]) -> Iterator[None]:
        """Compiles contestants for entry sizes in bytes, as many at a time as there are CPUs; yields after each."""
        todo = {self._key(*one): one for one in wanted if self._key(*one) not in self._made}
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for key, made in zip(todo, pool.map(lambda one: self._compile(*one), todo.values()), strict=True):
                self._made[key] = made
                yield

    def path(self, contestant: Contestant, entry: int) -> Path:
        """Returns the program of one that was made and is not missing."""
        made = self._made[self._key(contestant, entry)]
        assert isinstance(made, Path), made
        return made

    def missing(self, contestant: Contestant, entry: int) -> str:
        """Returns why there is no program; empty if there is one."""
        made = self._made[self._key(contestant, entry)]
        return made if isinstance(made, str) else ""

    @staticmethod
    def _key(contestant: Contestant, entry: int) -> tuple[object, ...]:
        return (contestant.source, contestant.flags, entry)

    def _compile(self, contestant: Contestant, entry: int) -> Path | str:
        names = ("g++", "c++") if contestant.source.endswith(".cc") else ("gcc", "cc")
        compiler = next(filter(None, map(shutil.which, names)), None)
        if compiler is None:
            return f"no compiler: install {names[0]}"
        standard = "-std=gnu++17" if contestant.source.endswith(".cc") else "-std=gnu11"
        parts = [Path(contestant.source).stem, *(flag[2:] for flag in contestant.flags if flag.startswith("-D"))]
        program = self._folder / "-".join([*parts, str(entry)])
        command: list[str] = [compiler, standard, *_FLAGS, f"-I{CORE}", *contestant.flags, f"-DENTRY={entry}"]
        command += ["-o", str(program), str(HERE / contestant.source), *contestant.links]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return program
        first = next((line for line in ran.stderr.splitlines() if "error" in line), ran.stderr[:200].strip())
        if contestant.package and ("No such file" in ran.stderr or "cannot find -l" in ran.stderr):
            return f"not installed: Debian's {contestant.package}"
        return f"does not compile: {first}"


@contextmanager
def workshop() -> Iterator[Programs]:
    """A place for compiled contestants, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="xenlike-bench-ring-") as folder:
        yield Programs(Path(folder))
