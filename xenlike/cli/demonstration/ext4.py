"""A reader of ext4, just enough to find and read every file of an image that nobody writes.

    block 0, byte 1024      superblock: block size, counts, features
    next block              group descriptors, one for each group of blocks: where its inodes are
    inode                   256 bytes: type, size, root of the extent tree
    extent tree             file block -> disk block; nodes of 12-byte entries
    directory               a file of records: inode number, length, name

From the kernel's documentation, `Documentation/filesystems/ext4/`. What this reader does not know (inline data,
encryption, block maps of ext2) it refuses by name.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

Read = Callable[[int, int], Awaitable[bytes]]
"""Reads (offset, length), both multiples of 512, from the disk."""

_MAGIC = 0xEF53
_ROOT = 2
_EXTENT_MAGIC = 0xF30A
_INCOMPAT_KNOWN = 0x2 | 0x4 | 0x40 | 0x80 | 0x200 | 0x2000  # filetype, recover, extents, 64bit, flex_bg, csum_seed
_EXTENTS_FLAG = 0x80000
_UNWRITTEN = 0x8000  # a length beyond it: allocated, reads as zeroes
_FILE, _DIRECTORY = 1, 2
_CHUNK = 256 << 10


class Ext4Error(Exception):
    """The image is no ext4, or uses what this reader does not know."""


@dataclass(frozen=True)
class Inode:
    """A file or directory.

    Attributes:
        number: its own.
        size: bytes.
        extents: (first block of the file, number of blocks, first block on disk), in order; a gap reads as zeroes.
    """

    number: int
    size: int
    extents: list[tuple[int, int, int]]


class Ext4:
    """An image being read; `open` makes one."""

    def __init__(self, read: Read, superblock: bytes) -> None:
        if struct.unpack_from("<H", superblock, 0x38)[0] != _MAGIC:
            raise Ext4Error("this is no ext4: there is no superblock")
        incompatible = struct.unpack_from("<I", superblock, 0x60)[0]
        if incompatible & ~_INCOMPAT_KNOWN:
            raise Ext4Error(f"this ext4 uses features {incompatible & ~_INCOMPAT_KNOWN:#x}, which are not known here")
        self._read = read
        self.block_size: int = 1024 << struct.unpack_from("<I", superblock, 0x18)[0]
        first_block, self._inodes_per_group = (
            struct.unpack_from("<I", superblock, 0x14)[0],
            struct.unpack_from("<I", superblock, 0x28)[0],
        )
        self._inode_size: int = struct.unpack_from("<H", superblock, 0x58)[0]
        wide = incompatible & 0x80
        self._descriptor_size: int = struct.unpack_from("<H", superblock, 0xFE)[0] if wide else 32
        self._descriptors = (first_block + 1) * self.block_size
        self._metadata: dict[int, bytes] = {}

    @classmethod
    async def open(cls, read: Read) -> Ext4:
        """Reads the superblock.

        Raises:
            Ext4Error: there is none, or it asks for too much.
        """
        return cls(read, await read(1024, 1024))

    async def files(self) -> AsyncIterator[tuple[str, Inode]]:
        """Yields every regular file with its path, directory by directory."""
        pending = [("", _ROOT)]
        while pending:
            folder, number = pending.pop()
            for name, child, kind in await self._directory(number):
                path = f"{folder}/{name}" if folder else name
                if kind == _DIRECTORY and name not in (".", ".."):
                    pending.append((path, child))
                elif kind == _FILE:
                    yield path, await self.inode(child)

    async def content(self, inode: Inode) -> AsyncIterator[bytes]:
        """Yields a file's bytes in order."""
        position = 0
        for first, count, block in inode.extents:
            start = first * self.block_size
            end = min(start + count * self.block_size, inode.size)
            while position < min(start, inode.size):
                piece = min(start, inode.size) - position
                yield bytes(min(piece, _CHUNK))
                position += min(piece, _CHUNK)
            offset = block * self.block_size
            while position < end:
                length = min(end - position, _CHUNK)
                whole = -(-length // 512) * 512
                data = await self._read(offset, whole)
                yield data[:length] if whole != length else data
                position += length
                offset += length
        if position < inode.size:
            yield bytes(inode.size - position)

    async def inode(self, number: int) -> Inode:
        """Reads an inode and its extent tree."""
        group, index = divmod(number - 1, self._inodes_per_group)
        descriptor = await self._bytes(self._descriptors + group * self._descriptor_size, self._descriptor_size)
        table = struct.unpack_from("<I", descriptor, 8)[0]
        if self._descriptor_size >= 64:
            table |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        raw = await self._bytes(table * self.block_size + index * self._inode_size, self._inode_size)
        low, high = struct.unpack_from("<I", raw, 4)[0], struct.unpack_from("<I", raw, 0x6C)[0]
        if not struct.unpack_from("<I", raw, 0x20)[0] & _EXTENTS_FLAG:
            raise Ext4Error(f"inode {number} has no extents")
        extents: list[tuple[int, int, int]] = []
        await self._walk(raw[0x28:0x64], extents, number)
        return Inode(number, low | high << 32, extents)

    async def _walk(self, node: bytes, extents: list[tuple[int, int, int]], number: int, depth: int = 5) -> None:
        """Collects the extents below a node, whose depth must shrink on the way down."""
        magic, entries, _, level = struct.unpack_from("<4H", node)
        if magic != _EXTENT_MAGIC or level > depth or 12 * (entries + 1) > len(node):
            raise Ext4Error(f"the extent tree of inode {number} is damaged")
        for index in range(1, entries + 1):
            if level:
                _, low, high = struct.unpack_from("<IIH", node, 12 * index)
                child = await self._bytes((low | high << 32) * self.block_size, self.block_size)
                await self._walk(child, extents, number, level - 1)
            else:
                first, count, high, low = struct.unpack_from("<IHHI", node, 12 * index)
                if count <= _UNWRITTEN:
                    extents.append((first, count, low | high << 32))

    async def _directory(self, number: int) -> list[tuple[str, int, int]]:
        """Returns (name, inode number, type) of a directory's entries."""
        data = b"".join([part async for part in self.content(await self.inode(number))])
        found = []
        for start in range(0, len(data), self.block_size):
            offset, end = start, start + self.block_size
            while offset + 8 <= end:
                child, length, name_length, kind = struct.unpack_from("<IHBB", data, offset)
                if length < 8:
                    raise Ext4Error(f"directory {number} is damaged")
                if child:
                    name = data[offset + 8 : offset + 8 + name_length]
                    found.append((name.decode(errors="surrogateescape"), child, kind))
                offset += length
        return found

    async def _bytes(self, offset: int, length: int) -> bytes:
        """Returns metadata out of blocks that are kept once read."""
        found = bytearray()
        while length:
            block, within = divmod(offset, 4096)
            if block not in self._metadata:
                self._metadata[block] = await self._read(block * 4096, 4096)
            piece = self._metadata[block][within : within + length]
            found += piece
            offset += len(piece)
            length -= len(piece)
        return bytes(found)
