"""Block devices behind a block backend.

A backend sees one small interface (`BlockDevice`) and picks an engine by the format that the
toolstack named: `raw` (`FileDevice`) or `memory` (`MemoryDevice`). An engine is handed an open
descriptor; it never opens a path, because a driver domain may not.
"""

from xenlike.storage.device import SECTOR_SIZE, BlockDevice, Buffers
from xenlike.storage.file import FileDevice
from xenlike.storage.memory import MemoryDevice
from xenlike.storage.open import FORMATS, open_device

__all__ = ["FORMATS", "SECTOR_SIZE", "BlockDevice", "Buffers", "FileDevice", "MemoryDevice", "open_device"]
