"""`python -m xenlike.xenstored --socket PATH`."""

from __future__ import annotations

import sys

from xenlike.xenstored.main import main

if __name__ == "__main__":
    sys.exit(main())
