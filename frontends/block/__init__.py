"""The frontend half of the block driver."""

from xenlike.frontends.block.front import BlockFront, BlockStatistics, Buffer

__all__ = ["BlockFront", "BlockStatistics", "Buffer"]
