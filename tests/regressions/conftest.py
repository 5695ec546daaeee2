"""The worlds of the ledger's tests, for regressions that play in them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))
