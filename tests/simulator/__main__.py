"""`python -m tests.simulator`."""

from __future__ import annotations

import sys

from tests.simulator.campaign import main

if __name__ == "__main__":
    sys.exit(main())
