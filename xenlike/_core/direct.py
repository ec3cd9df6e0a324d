"""The types of xl_direct*.c: what is called for every entry or batch, without cffi.

They are a second module in cffi's library, with an init function of its own, so that the core is built and shipped
as one file.
"""

from __future__ import annotations

import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenlike._core._direct import Batch, End
else:
    _loader = ExtensionFileLoader("xenlike._core._direct", sys.modules["xenlike._core._xl"].__file__)
    _module = module_from_spec(spec_from_loader(_loader.name, _loader))
    _loader.exec_module(_module)
    Batch, End = _module.Batch, _module.End

__all__ = ["Batch", "End"]
