"""One damaged byte anywhere in a home: the same reads, or a refusal with a code; never another value, never a hole.

`python -m tests.chaos flips --count 2000` damages as many as one likes.
"""

from __future__ import annotations

import time
from pathlib import Path

import byte_flips
import pytest
from byte_flips import SAME, SHORTER, SITS_OUT, Flip, Sound

from gensyn_node.storage import reasons

SEED = 5
FLIPS = 200


@pytest.fixture(scope="module")
def sound(memory: Path) -> Sound:
    """A home with tables, a database log, a manifest of several edits, an input log and a sign state in use."""
    made = byte_flips.build(memory / "home")
    kinds = {byte_flips.kind_of(path) for path, content in made.files.items() if content}
    assert {"table", "database log", "manifest", "CURRENT", "input log", "sign state", "genesis", "key"} <= kinds
    assert made.records
    return made


def test_no_damaged_byte_is_read_as_something_else(sound: Sound, memory: Path) -> None:
    outcome = byte_flips.campaign(sound, SEED, FLIPS, memory / "state")
    assert outcome.flips == FLIPS
    assert outcome.faults == []
    for kind in ("sign state", "key", "CURRENT", "genesis", "manifest", "database log"):
        assert all(said.startswith("refused") for said in outcome.outcomes[kind]), kind
    assert set(outcome.outcomes["input log"]) <= {SITS_OUT, SHORTER}
    assert {said for said in outcome.outcomes["table"] if not said.startswith("refused")} <= {SAME}


def test_each_length_in_the_manifest_and_in_the_database_log_is_guarded(sound: Sound, memory: Path) -> None:
    """The flips that LevelDB itself takes for an unfinished write: whole tables or blocks would be gone."""
    for path, content in sound.files.items():
        if content and byte_flips.kind_of(path) in ("manifest", "database log"):
            for start, _ in byte_flips.log_records(content)[-3:]:
                for position in (start + 4, start + 5):
                    flip = Flip(path, position, content[position] ^ 0xFF)
                    assert byte_flips.judge(sound, flip, memory / "state").startswith(
                        f"refused {reasons.STORE_CORRUPT.code}"
                    )


@pytest.mark.soak
def test_flips_of_a_new_seed(sound: Sound, memory: Path) -> None:
    outcome = byte_flips.campaign(sound, time.time_ns(), 2_000, memory / "state")
    assert outcome.faults == []
