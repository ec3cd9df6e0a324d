"""What all tests share."""

from __future__ import annotations

import os
import signal

import hypothesis

# Speed is for benchmarks, so there is no deadline. CI looks for the same cases every time, so that a red run is
# about the change at hand; a person's runs keep looking for new ones.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell starts background jobs with Ctrl-C ignored, and programs hand that on: tests of it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
