"""Watching a task: by what changed, or again and again with a time limit that holds while nothing happens."""

from __future__ import annotations

import math
import time
from typing import Any

from gensyn_node.sdk.task_flow import follow_task, poll_task


class Tasks:
    """A node whose task has these states, one a call; the last for ever."""

    def __init__(self, *states: str) -> None:
        self._states = list(states)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return {"state": state, "final": state == "finished"}


def states(views: Any) -> list[str]:
    return [view["state"] for view in views]


def test_a_task_is_told_when_it_changed_and_polled_whether_or_not() -> None:
    seen = ("waiting", "waiting", "training", "training", "finished")
    assert states(follow_task(Tasks(*seen), bytes(32), 0)) == ["waiting", "training", "finished"]  # type: ignore[arg-type]
    assert states(poll_task(Tasks(*seen), bytes(32), poll_s=0)) == list(seen)  # type: ignore[arg-type]


def test_a_task_that_stands_still_is_not_polled_beyond_its_time() -> None:
    assert states(poll_task(Tasks("waiting"), bytes(32), -math.inf, 0)) == []  # type: ignore[arg-type]
    views = states(poll_task(Tasks("waiting"), bytes(32), time.monotonic() + 0.01, 0.001))  # type: ignore[arg-type]
    assert set(views) == {"waiting"}
