"""Rings from C to C: our layouts, Xen's ring.h, boost and DPDK, each a small program of two pinned processes.

`programs` compiles them, `races` says what is run against what, `results` runs it and keeps the samples, `measure`
turns those into figures. The programs are in C beside these files; `race.h` has what all of them share.
"""
