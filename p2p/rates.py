"""Token buckets: a rate with a burst, and a pace to wait for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import trio

from p2p.bounds import RATE_BURST_S


@dataclass(slots=True)
class _Bucket:
    tokens: float
    updated: float


class RateLimiter:
    """At most `per_second` events a key in the long run, `RATE_BURST_S` seconds' worth at once."""

    KEYS_MAX = 4096

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second * RATE_BURST_S)
        self._buckets: dict[Hashable, _Bucket] = {}

    def allow(self, key: Hashable, now: float) -> bool:
        """Take one token if there is one. `now` in seconds, monotonic."""
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[key] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.updated) * self._per_second)
        bucket.updated = now
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def _make_room(self, now: float) -> None:
        """Forget full buckets: a forgotten key starts full again."""
        if len(self._buckets) < self.KEYS_MAX:
            return
        idle = [key for key, bucket in self._buckets.items() if now - bucket.updated >= RATE_BURST_S]
        for key in idle or [next(iter(self._buckets))]:
            del self._buckets[key]


class Pacer:
    """Spreads bytes over time: `await spend(n)` returns when `n` more bytes are due."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._free_at = 0.0

    def is_free(self) -> bool:
        """Whether `spend` would return at once."""
        return self._rate is None or self._free_at <= trio.current_time()

    async def spend(self, count: int) -> None:
        """Wait for the turn of `count` bytes."""
        if self._rate is None:
            return
        start = max(self._free_at, trio.current_time())
        self._free_at = start + count / self._rate
        await trio.sleep_until(start)
