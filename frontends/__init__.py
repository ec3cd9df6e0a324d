"""Guest halves of the drivers, one package each: what `xenlike.frontends.<name>` holds.

The folder lies at the top of the tree, beside `backends/`, and is linked into the package.
"""

if __name__ != "xenlike.frontends":
    # A second copy of every class would make `isinstance` lie.
    raise ImportError(f"import xenlike.frontends, not {__name__}")
