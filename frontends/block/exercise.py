"""A disk in use, for checks and benchmarks. It writes: not for a disk whose content is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from xenlike.frontends.block.front import BlockFront

MOST_SECTORS = 16


async def exercise(disk: BlockFront, dice: Random) -> None:
    """Writes some sectors somewhere and reads them back; see `xenlike.abi.driver.Driver`."""
    sector, sectors = disk.sector_size, disk.size // disk.sector_size
    length = min(dice.randint(1, MOST_SECTORS), sectors)
    offset = dice.randint(0, sectors - length) * sector
    data = dice.randbytes(length * sector)
    await disk.write(offset, data)
    assert await disk.read(offset, len(data)) == data
