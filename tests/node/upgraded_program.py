"""`gensyn` as a later version would be: it knows the upgrade `v2`. Run with the arguments of `gensyn`."""

from __future__ import annotations

from types import MappingProxyType

from cli.main import main
from consensus.ledger.upgrades import Upgrade
from gensyn_node.app import settings

if __name__ == "__main__":
    settings.KNOWN_UPGRADES = MappingProxyType({"v2": Upgrade(2)})
    main()
