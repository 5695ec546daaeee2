"""The settings that a schedule can name."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulator.application import Setting, Surroundings
from tests.simulator.ledger.application import LedgerSetting
from tests.simulator.toy import ToySetting

APPLICATIONS: dict[str, Callable[[Surroundings], Setting]] = {"ledger": LedgerSetting, "toy": ToySetting}
