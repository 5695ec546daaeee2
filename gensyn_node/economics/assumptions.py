"""What the simulation takes for granted, in numbers and in words. The rest are the ledger's rules."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.ledger.parameters import BASIS_POINTS

SECONDS_PER_YEAR = 31_557_600


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Costs and habits. Shares are basis points."""

    margin_bps: int = 2_500
    """An honest machine asks for so much more than its work costs it."""
    verify_cost_bps: int = 10_500
    """What re-executing a segment costs, beside training it: states are fetched and hashed on top."""
    leaked_work_bps: int = 6_000
    """What a verifier still computes when its hand trained the segment and kept the state of every step: up to the
    products of which tiles are drawn, of the work of re-executing. Of a GPT 60 % (`proofs.samples`); keeping is free.
    """
    capital_bps_per_year: int = 1_000
    """What locked money would earn elsewhere."""
    block_seconds: int = 6
    audit_bps: int = 250
    """Chance that a whistleblower looks into an instalment on its own: one approved segment, drawn at random.

    A tenth of the drawn watches that mainnet has: what the program gives away of the time that it is paid for.
    """
    moves: int = 5
    """Moves of each party in a dispute (7 to 9 together are usual, 13 the most that was measured)."""
    value_bps: int = 15_000
    """What a right result is worth to its submitter, beside the price of its training."""
    low_precision_saving_bps: int = 5_000
    """Of the training's cost, by computing in half precision."""
    wrong_data_saving_bps: int = 1_000
    """Of the training's cost, by other data than the task's."""

    def cost_of(self, price_nano: int) -> int:
        """What work costs a machine that asks this price for it."""
        return price_nano * BASIS_POINTS // (BASIS_POINTS + self.margin_bps)

    def capital(self, locked_nano: int, blocks: int) -> int:
        """What locking money for some blocks costs."""
        seconds = blocks * self.block_seconds
        return locked_nano * self.capital_bps_per_year * seconds // (BASIS_POINTS * SECONDS_PER_YEAR)

    def sentences(self) -> list[str]:
        """All of it, for people."""
        return [
            f"An honest machine asks {self.margin_bps / 100:g} % more than its work costs; a cheat asks the same.",
            f"Re-executing a segment costs {self.verify_cost_bps / 100:g} % of training it.",
            f"A verifier whose hand kept every step's state computes {self.leaked_work_bps / 100:g} % of that.",
            f"Locked money costs {self.capital_bps_per_year / 100:g} % a year; a block takes {self.block_seconds} s.",
            f"Beside drawn watches, one looks into {self.audit_bps / 100:g} % of the instalments on its own account.",
            "Evidence that differs from a verifier's own, or from another's over the same segment, is challenged.",
            f"Each party of a dispute makes {self.moves} moves and re-executes the segment once.",
            f"A right result is worth {self.value_bps / 100:g} % of the price of its training; a wrong one nothing.",
            f"Half precision saves {self.low_precision_saving_bps / 100:g} % of the cost, other data "
            f"{self.wrong_data_saving_bps / 100:g} %.",
            "All bad actors know each other and share what they earn; nobody gains outside the chain.",
            "With forced errors the jackpot pool holds enough for a whole jackpot.",
            "Everybody is online; every fee is the least that the ledger takes.",
        ]
