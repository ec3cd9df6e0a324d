"""The layouts of a ring's shared memory, by the names that frontends write to `ring-layout`.

`xen` is Xen's io/ring.h bit for bit: all four indices in the first line, slots from 64. `cacheline` gives each
index and each event lines of its own and starts the slots at 512: entries that are shorter than a line do not cross
one, longer ones begin at one; both ends must speak it.
`cacheline-tag` is the same with a tag of 8 bytes in every slot that says what the slot holds, in the place of indices
(RING.md 8); request rings can have it where both ends are told so, and no backend offers it by itself.
"""

from __future__ import annotations

from xenlike import _core

XEN = "xen"
CACHELINE = "cacheline"
CACHELINE_TAG = "cacheline-tag"
#: What is offered. `cacheline-tag` is not, until measurements favour it.
LAYOUTS = (XEN, CACHELINE)

PAGE_SIZE = 4096
MAX_ORDER = 10
MAX_ENTRY_SIZE = 4096

_NUMBERS = {XEN: 0, CACHELINE: 1, CACHELINE_TAG: 2}


def layout_number(layout: str) -> int:
    """Returns the core's number of a layout.

    Raises:
        ValueError: there is no such layout.
    """
    number = _NUMBERS.get(layout)
    if number is None:
        raise ValueError(f"ring layout {layout!r} is not one of {', '.join(_NUMBERS)}")
    return number


def slots(layout: str, nbytes: int, entry_size: int) -> int:
    """Returns how many entries a ring holds; a power of two, or 0 if none fits.

    Args:
        layout: `xen`, `cacheline` or `cacheline-tag`.
        nbytes: size of the whole ring, header included.
        entry_size: the larger of request and response in bytes.
    """
    return _core.ring_slots(layout_number(layout), nbytes, entry_size)


def preferred(nbytes: int, entry_size: int) -> tuple[str, ...]:
    """Returns the layouts that a frontend without a wish of its own asks for, best first.

    With the same number of slots the cacheline layout is 1.04 to 1.5 times as fast as Xen's, over batches of 1 to 32,
    polled and with events, and 0.9 to 1.04 times at entries of 128 bytes (docs/rings.md). It is not worth half of the
    slots: so it is taken where the same pages have room for as many.
    """
    return (CACHELINE, XEN) if slots(CACHELINE, nbytes, entry_size) >= slots(XEN, nbytes, entry_size) else (XEN,)


def stride(layout: str, entry_size: int) -> int:
    """Returns the distance between two slots in bytes."""
    return _core.ring_stride(layout_number(layout), entry_size)


def check_geometry(layout: str, nbytes: int, sizes: dict[str, int], entry_size: int | None) -> int:
    """Checks what a ring is to be made of, and returns its entry size.

    Args:
        layout: `xen`, `cacheline` or `cacheline-tag`.
        nbytes: size of the whole ring.
        sizes: sizes of requests and responses in bytes, by the argument's name.
        entry_size: sizeof() the union of both, where padding makes it larger than either; None: the larger.

    Raises:
        ValueError: what is wrong, with the value.
    """
    layout_number(layout)
    pages = nbytes // PAGE_SIZE
    if nbytes % PAGE_SIZE or pages & (pages - 1) or not 1 <= pages <= 1 << MAX_ORDER:
        raise ValueError(f"a ring has {PAGE_SIZE} << order bytes (order 0 to {MAX_ORDER}), not {nbytes}")
    for name, size in sizes.items():
        if not 1 <= size <= MAX_ENTRY_SIZE:
            raise ValueError(f"{name} is {size}; entries have 1 to {MAX_ENTRY_SIZE} bytes")
    largest = max(sizes.values())
    entry = largest if entry_size is None else entry_size
    if not largest <= entry <= MAX_ENTRY_SIZE:
        raise ValueError(f"entry_size is {entry}; it must be {largest} to {MAX_ENTRY_SIZE}")
    if not slots(layout, nbytes, entry):
        raise ValueError(f"a {layout} ring of {nbytes} bytes has no room for an entry of {entry} bytes")
    return entry


def check_index(first_index: int) -> int:
    """Returns `first_index` if it is an unsigned 32-bit number; raises ValueError otherwise."""
    if not 0 <= first_index < 1 << 32:
        raise ValueError(f"first_index is {first_index}; it must be an unsigned 32-bit number")
    return first_index


def check_buffer(buffer: object) -> memoryview:
    """Returns a byte view of a ring's memory.

    Raises:
        ValueError: it is not one writable, C-contiguous piece.
    """
    try:
        view = memoryview(buffer)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"a ring needs a buffer, not {type(buffer).__name__}") from None
    if view.readonly or not view.c_contiguous:
        raise ValueError("a ring needs a writable, contiguous buffer")
    return view
