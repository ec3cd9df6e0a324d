"""Driver-domain halves of the drivers, one package each: what `xenlike.backends.<name>` holds.

The folder lies at the top of the tree, beside `frontends/`, and is linked into the package.
"""

if __name__ != "xenlike.backends":
    # A second copy of every class would make `isinstance` lie.
    raise ImportError(f"import xenlike.backends, not {__name__}")
