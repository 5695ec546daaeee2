"""`python -m tests.native`."""

from __future__ import annotations

import sys

from tests.native.campaign import main

if __name__ == "__main__":
    sys.exit(main())
