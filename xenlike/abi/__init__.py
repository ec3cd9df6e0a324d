"""Xen's public ABI as pure declarations: layouts, numbers and names, with their codecs.

Nothing here does I/O or imports anything else of xenlike. `python -m xenlike.abi --json` prints
every size, offset and number that is declared; `--c-header` prints `xenlike/include/xenlike.h`.
"""
