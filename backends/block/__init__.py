"""The backend half of the block driver."""

from xenlike.backends.block.back import BlockBack

__all__ = ["BlockBack"]
