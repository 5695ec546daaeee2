"""From refused inputs to a score, from a score to a ban, and back with time. Pure: the clock is an argument.

A score starts at 0, falls by the weight of each refused input and rises by one each second; at -100 the peer is banned.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.statesync.reasons import NO_SNAPSHOT
from consensus.tendermint.reasons import EVIDENCE_OUT_OF_REACH
from gensyn_node.primitives import reasons as primitive_reasons
from gensyn_node.primitives.errors import Reason, Rejection
from p2p import reasons
from p2p.api import PeerId
from proofs.reasons import BAD_CHUNK

BAN_AT = -100
DEFAULT_WEIGHT = 20
"""A refused input of any kind not named below: five in quick succession ban."""

WEIGHTS: dict[str, int] = {
    # No honest software of any version sends these.
    reasons.GOSSIP_TOO_LARGE.code: 100,
    reasons.REPLY_TOO_LARGE.code: 100,
    BAD_CHUNK.code: 100,
    primitive_reasons.BAD_SIGNATURE.code: 100,
    # A version that differs may.
    primitive_reasons.MALFORMED.code: 50,
    primitive_reasons.NOT_CANONICAL.code: 50,
    primitive_reasons.TOO_LARGE.code: 50,
    reasons.WRONG_FRAME.code: 50,
    reasons.REQUEST_TOO_LARGE.code: 50,
    # An honest peer's frame that its own reset cut short looks the same; three in quick succession do not happen.
    reasons.MALFORMED_GOSSIP.code: 40,
    # Impatience.
    reasons.TOO_MANY_REQUESTS.code: 2,
    reasons.GOSSIP_RATE.code: 2,
    # No fault: heads differ for a moment.
    reasons.OUT_OF_SEASON.code: 0,
    EVIDENCE_OUT_OF_REACH.code: 0,
    # No fault: questions that have no answer here.
    reasons.NO_SUCH_BLOB.code: 0,
    NO_SNAPSHOT.code: 0,
    reasons.UNKNOWN_METHOD.code: 0,
    reasons.NO_HANDSHAKE.code: 0,
    reasons.INTERNAL.code: 0,
}

PEERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Ban:
    """Until when and why; times in seconds since 1970, because a ban outlives the process."""

    peer: PeerId
    code: str
    message: str
    until: float


class ScoreBoard:
    """Scores and bans by peer."""

    def __init__(self, ban_seconds: float) -> None:
        self._ban_seconds = ban_seconds
        self._scores: dict[PeerId, tuple[int, float]] = {}
        self._bans: dict[PeerId, Ban] = {}

    def score(self, peer: PeerId, now: float) -> int:
        """Between -100 and 0."""
        value, since = self._scores.get(peer, (0, now))
        return min(0, value + int(now - since))

    def charge(self, peer: PeerId, rejection: Rejection, now: float) -> Ban | None:
        """Lower the score; the ban if this was too much."""
        weight = WEIGHTS.get(rejection.reason.code, DEFAULT_WEIGHT)
        if weight == 0:
            return None
        score = self.score(peer, now) - weight
        if score <= BAN_AT:
            return self.ban(peer, rejection.reason, rejection.message, now)
        self._make_room(now)
        self._scores[peer] = (score, now)
        return None

    def ban(self, peer: PeerId, why: Reason, message: str, now: float, seconds: float | None = None) -> Ban:
        """Ban at once."""
        self._make_room(now)
        self._scores[peer] = (BAN_AT, now)
        ban = Ban(peer, why.code, message[:200], now + (self._ban_seconds if seconds is None else seconds))
        self._bans[peer] = ban
        return ban

    def restore(self, ban: Ban) -> None:
        """Put back a ban that was kept on disk."""
        self._bans[ban.peer] = ban

    def ban_of(self, peer: PeerId, now: float) -> Ban | None:
        """The ban in force; one that has expired is forgotten, with the score."""
        ban = self._bans.get(peer)
        if ban is not None and ban.until <= now:
            self.lift(peer)
            return None
        return ban

    def bans(self, now: float) -> list[Ban]:
        """Bans in force, sorted by peer."""
        return [ban for peer in sorted(self._bans) if (ban := self.ban_of(peer, now)) is not None]

    def lift(self, peer: PeerId) -> None:
        """Forget ban and score."""
        self._bans.pop(peer, None)
        self._scores.pop(peer, None)

    def _make_room(self, now: float) -> None:
        for peer in [peer for peer in self._scores if self.score(peer, now) == 0]:
            del self._scores[peer]
        while len(self._scores) >= PEERS_MAX:
            del self._scores[next(iter(self._scores))]
        while len(self._bans) >= PEERS_MAX:
            del self._bans[min(self._bans.values(), key=lambda ban: ban.until).peer]
