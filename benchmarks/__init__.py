"""Benchmarks: one runner, one file for each subject; `xenlike bench` is the way in.

The folder lies at the top of the tree, and is linked into the package.
"""

if __name__ != "xenlike.benchmarks":
    # A second copy of every class would make `isinstance` lie.
    raise ImportError(f"import xenlike.benchmarks, not {__name__}")
