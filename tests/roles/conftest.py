"""The ledger's test world, for roles that act on it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))
