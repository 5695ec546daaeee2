"""What holds for all tests: the same examples every time, and no example fails for being slow on a busy machine.

`make soak` explores: it sets HYPOTHESIS_PROFILE=explore, and what it finds becomes an explicit example.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
