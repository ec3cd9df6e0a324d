"""How much work the long tests of the core do."""

from __future__ import annotations

import os

#: Set in the run of test_sanitizers.py.
SANITIZED = "XENLIKE_TEST_SANITIZED"

#: Of each state machine; a sanitizer's run is many times slower, and looks for other things.
EXAMPLES = 10 if SANITIZED in os.environ else 100
