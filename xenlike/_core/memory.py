"""Memory windows: a sealed memfd each, mapped where the guest's address layout wants it.

A mapping is closed only when told, never by the garbage collector: memoryviews of it outlive the object, and
memory that vanishes under a view is a crash, not an exception. `close` refuses while views exist;
`detach` never refuses, because it puts private memory under them.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from xenlike._core import ffi, lib

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

MFD_NOEXEC_SEAL = 0x0008
F_SEAL_SEAL = 0x0001
F_SEAL_SHRINK = 0x0002
F_SEAL_GROW = 0x0004
F_SEAL_WRITE = 0x0008
F_SEAL_FUTURE_WRITE = 0x0010

_reservations: list[tuple[int, int]] = []
_lock = threading.Lock()


def _check(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def memfd_create(name: str, size: int = 0) -> int:
    """Returns a fresh memfd: close-on-exec, sealable, never executable, zeroed.

    Args:
        name: shown in /proc; need not be unique.
        size: in bytes; 0 leaves it empty.

    Raises:
        OSError: no descriptor or no memory is left.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(name, flags)  # a kernel before 6.3
    if size:
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
    return fd


def seal(fd: int, seals: int) -> None:
    """Adds `F_SEAL_*` to a memfd."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def get_seals(fd: int) -> int:
    """Returns the `F_SEAL_*` of a memfd."""
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS)


def _page_multiple(length: int, address: int) -> None:
    if length <= 0 or length % mmap.PAGESIZE or address % mmap.PAGESIZE or address < 0:
        raise ValueError(f"length {length} and address {address:#x} must be multiples of {mmap.PAGESIZE}")


def _reserved(address: int, length: int) -> bool:
    with _lock:
        return any(base <= address and address + length <= base + size for base, size in _reservations)


class Reservation:
    """A range of address space without memory, kept for windows that come later.

    Attributes:
        address: where it begins.
        length: in bytes.
    """

    def __init__(self, address: int, length: int) -> None:
        self.address = address
        self.length = length
        with _lock:
            _reservations.append((address, length))

    def close(self) -> None:
        """Gives the range back, and everything mapped in it. Views of those mappings must be gone."""
        with _lock:
            if (self.address, self.length) not in _reservations:
                return
            _reservations.remove((self.address, self.length))
        _check(lib.xl_unmap(self.address, self.length))


def reserve(length: int, address: int = 0) -> Reservation:
    """Reserves address space.

    Args:
        length: in bytes, whole pages.
        address: where; 0 lets the kernel choose.

    Raises:
        OSError: EEXIST, something is mapped there already.
    """
    _page_multiple(length, address)
    return Reservation(_check(lib.xl_reserve(length, address, 0)), length)


class Mapping:
    """Shared memory of this process; made by `map_shared`.

    Attributes:
        address: where it begins.
        length: in bytes.
        writable: whether this mapping may write.
    """

    def __init__(self, address: int, length: int, writable: bool) -> None:
        self.address = address
        self.length = length
        self.writable = writable
        self._closed = False
        self._root: Any = ffi.buffer(ffi.cast("char *", address), length)
        self._view = self._whole_view()

    def _whole_view(self) -> memoryview:
        whole = memoryview(self._root)
        return whole if self.writable else whole.toreadonly()

    @property
    def buffer(self) -> memoryview:
        """The whole mapping as bytes; read-only if the mapping is. Released by `close`."""
        return self._view

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` was called."""
        return self._closed

    def replace(self, fd: int, offset: int = 0) -> None:
        """Puts another memfd under the same addresses, in one step; views stay valid and see the new content."""
        if self._closed:
            raise ValueError("the mapping is closed")
        _check(lib.xl_map_shared(fd, self.length, offset, int(self.writable), self.address, 1))

    def close(self) -> None:
        """Unmaps; idempotent. In a reserved range the reservation stays.

        Raises:
            BufferError: a slice of `buffer`, or an object made from one, is still alive. Nothing has changed
                then, except that `buffer` is a new memoryview.
        """
        if self._closed:
            return
        try:
            self._view.release()
            alive = weakref.ref(self._root)
            del self._root
            self._root = alive()
            if self._root is not None:
                raise BufferError(f"the mapping at {self.address:#x} has views; release them first, or detach() it")
        except BufferError:
            self._view = self._whole_view()
            raise
        self._closed = True
        if _reserved(self.address, self.length):
            _check(lib.xl_reserve(self.length, self.address, 1))
        else:
            _check(lib.xl_unmap(self.address, self.length))

    def detach(self) -> None:
        """Ends the sharing and never refuses; idempotent.

        Where views are left, private zeroed memory takes the place of the shared one: they read zeros, and
        what they write reaches nobody. That memory is not given back.
        """
        if self._closed:
            return
        try:
            self.close()
        except BufferError:
            self._closed = True
            _check(lib.xl_map_private(self.address, self.length))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        mode = "rw" if self.writable else "r"
        state = " closed" if self._closed else ""
        return f"<Mapping {self.address:#x}+{self.length:#x} {mode}{state}>"


def map_shared(fd: int, length: int, prot_write: bool = True, fixed_addr: int = 0, *, offset: int = 0) -> Mapping:
    """Maps a memfd, shared.

    Args:
        fd: may be closed afterwards.
        length: in bytes, whole pages; the file must be at least that long and sealed against shrinking,
            or its owner can kill us with SIGBUS.
        prot_write: False maps it read-only.
        fixed_addr: where; 0 lets the kernel choose. Within a `Reservation` of this process what was
            there is replaced; elsewhere the range must be free.
        offset: of the first byte in the file, whole pages.

    Raises:
        OSError: EEXIST, something is mapped at `fixed_addr`; EACCES or EPERM, the descriptor or its seals
            do not allow writing; ENOMEM.
    """
    _page_multiple(length, fixed_addr)
    replace = bool(fixed_addr) and _reserved(fixed_addr, length)
    address = _check(lib.xl_map_shared(fd, length, offset, int(prot_write), fixed_addr, int(replace)))
    return Mapping(address, length, prot_write)
