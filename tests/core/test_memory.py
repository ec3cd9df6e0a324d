"""Laws of mappings: placed where asked, closed only when told, never pulled from under a view."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from xenlike import _core

PAGE = mmap.PAGESIZE


@pytest.fixture
def window() -> Iterator[int]:
    """A memfd of two pages."""
    fd = _core.memfd_create("window", 2 * PAGE)
    yield fd
    os.close(fd)


def test_two_mappings_of_one_window_are_the_same_memory(window: int) -> None:
    with _core.map_shared(window, 2 * PAGE) as one, _core.map_shared(window, 2 * PAGE) as two:
        assert one.address != two.address
        one.buffer[5] = 77
        assert two.buffer[5] == 77
        assert len(one.buffer) == one.buffer.nbytes == 2 * PAGE
        assert one.buffer.format == "B"


def test_an_offset_maps_the_later_page(window: int) -> None:
    with _core.map_shared(window, 2 * PAGE) as whole, _core.map_shared(window, PAGE, offset=PAGE) as second:
        whole.buffer[PAGE] = 9
        assert second.buffer[0] == 9


def test_a_read_only_mapping_has_a_read_only_buffer(window: int) -> None:
    with _core.map_shared(window, PAGE, prot_write=False) as mapping:
        assert mapping.buffer.readonly
        with pytest.raises(TypeError, match="read-only"):
            mapping.buffer[0] = 1


def test_a_fixed_mapping_lies_in_its_reservation_and_gives_the_range_back(window: int) -> None:
    reservation = _core.reserve(8 * PAGE)
    address = reservation.address + 2 * PAGE
    mapping = _core.map_shared(window, 2 * PAGE, True, address)
    assert mapping.address == address
    mapping.buffer[0] = 1
    mapping.close()
    # The range is still ours: nobody else may be mapped there without replacing the reservation.
    with pytest.raises(OSError, match="exists") as caught:
        _core.reserve(2 * PAGE, address)
    assert caught.value.errno == errno.EEXIST
    again = _core.map_shared(window, 2 * PAGE, True, address)
    assert again.buffer[0] == 1
    again.close()
    reservation.close()
    reservation.close()
    _core.reserve(2 * PAGE, address).close()


def test_a_fixed_mapping_outside_a_reservation_never_replaces_anything(window: int) -> None:
    taken = _core.map_shared(window, PAGE)
    with pytest.raises(OSError, match="exists") as caught:
        _core.map_shared(window, PAGE, True, taken.address)
    assert caught.value.errno == errno.EEXIST
    taken.close()


def test_replace_keeps_the_address_and_the_views(window: int) -> None:
    mapping = _core.map_shared(window, PAGE)
    view = mapping.buffer[:4]
    view[0] = 1
    other = _core.memfd_create("other", PAGE)
    os.pwrite(other, b"\x02", 0)
    mapping.replace(other)
    os.close(other)
    assert view[0] == 2
    assert os.pread(window, 1, 0) == b"\x01"
    view.release()
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        mapping.replace(window)


def test_close_releases_the_buffer_and_is_idempotent(window: int) -> None:
    mapping = _core.map_shared(window, PAGE)
    buffer = mapping.buffer
    mapping.close()
    mapping.close()
    assert mapping.closed
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1


@pytest.mark.parametrize("keep", ["slice", "export", "readonly"])
def test_close_refuses_while_a_view_exists(window: int, keep: str) -> None:
    mapping = _core.map_shared(window, PAGE)
    kept = {
        "slice": lambda: mapping.buffer[8:16],
        "export": lambda: _core.ffi.from_buffer(mapping.buffer),
        "readonly": mapping.buffer.toreadonly,
    }[keep]()
    with pytest.raises(BufferError):
        mapping.close()
    assert not mapping.closed
    mapping.buffer[0] = 3
    del kept
    mapping.close()


def test_detach_leaves_private_memory_under_the_views(window: int) -> None:
    mapping = _core.map_shared(window, PAGE)
    view = mapping.buffer[:8]
    view[0] = 5
    mapping.detach()
    mapping.detach()
    assert mapping.closed
    assert view[0] == 0
    view[1] = 6
    assert os.pread(window, 2, 0) == b"\x05\x00"


def test_the_garbage_collector_unmaps_nothing(window: int) -> None:
    view = _core.map_shared(window, PAGE).buffer
    view[0] = 5
    assert os.pread(window, 1, 0) == b"\x05"


@pytest.mark.parametrize(("length", "address"), [(0, 0), (-PAGE, 0), (PAGE + 1, 0), (PAGE, 100), (PAGE, -PAGE)])
def test_lengths_and_addresses_are_whole_pages(window: int, length: int, address: int) -> None:
    with pytest.raises(ValueError, match="multiples"):
        _core.map_shared(window, length, True, address)
    with pytest.raises(ValueError, match="multiples"):
        _core.reserve(length, address)


def test_a_bad_descriptor_is_an_os_error() -> None:
    with pytest.raises(OSError, match="Bad file") as caught:
        _core.map_shared(-1, PAGE)
    assert caught.value.errno == errno.EBADF


def test_windows_take_seals_and_obey_them(window: int) -> None:
    seals = _core.F_SEAL_SHRINK | _core.F_SEAL_GROW | _core.F_SEAL_FUTURE_WRITE | _core.F_SEAL_SEAL
    with _core.map_shared(window, PAGE) as writable:
        _core.seal(window, seals)
        assert _core.get_seals(window) & seals == seals
        writable.buffer[0] = 1
    with pytest.raises(PermissionError):
        _core.map_shared(window, PAGE)
    with pytest.raises(PermissionError):
        os.ftruncate(window, PAGE)
    with _core.map_shared(window, PAGE, prot_write=False) as reader:
        assert reader.buffer[0] == 1


def test_windows_are_not_inherited_by_exec(window: int) -> None:
    assert fcntl.fcntl(window, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_the_repr_shows_place_mode_and_state(window: int) -> None:
    mapping = _core.map_shared(window, PAGE, prot_write=False)
    assert repr(mapping) == f"<Mapping {mapping.address:#x}+{PAGE:#x} r>"
    mapping.close()
    assert repr(mapping).endswith("closed>")
