"""Where the buffers of a step lie in one block of memory: those whose lives overlap do not."""

from __future__ import annotations

from collections.abc import Sequence

LINE = 64
STAGGER = 320
"""Added to buffers of a page and more: streams that start a multiple of 4096 bytes apart disturb each other."""


def assign(buffers: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets of buffers given as (bytes, first instruction, last instruction), and the bytes of the whole.

    In the order of their first use each takes the smallest gap that holds it.
    """
    offsets = [0] * len(buffers)
    order = sorted(range(len(buffers)), key=lambda number: (buffers[number][1], -buffers[number][0]))
    ending = sorted(range(len(buffers)), key=lambda number: buffers[number][2])
    free: list[tuple[int, int]] = []
    """(offset, bytes), by offset, no two adjacent."""
    size, ended = 0, 0
    for number in order:
        wanted, first, _ = buffers[number]
        while ended < len(ending) and buffers[ending[ended]][2] < first:
            gone = ending[ended]
            _release(free, offsets[gone], _rounded(buffers[gone][0]))
            ended += 1
        wanted = _rounded(wanted)
        fitting = [place for place, (_, length) in enumerate(free) if length >= wanted]
        if fitting:
            place = min(fitting, key=lambda place: free[place][1])
            offset, length = free.pop(place)
            if length > wanted:
                free.insert(place, (offset + wanted, length - wanted))
        elif free and free[-1][0] + free[-1][1] == size:
            offset, _ = free.pop()
            size = offset + wanted
        else:
            offset, size = size, size + wanted
        offsets[number] = offset
    return offsets, size


def _rounded(size: int) -> int:
    return -(-max(size, 1) // LINE) * LINE + (STAGGER if size >= 4096 else 0)


def _release(free: list[tuple[int, int]], offset: int, size: int) -> None:
    """Give a range back, joined with its neighbours."""
    place = 0
    while place < len(free) and free[place][0] < offset:
        place += 1
    if place < len(free) and offset + size == free[place][0]:
        size += free.pop(place)[1]
    if place and free[place - 1][0] + free[place - 1][1] == offset:
        before, length = free.pop(place - 1)
        offset, size, place = before, length + size, place - 1
    free.insert(place, (offset, size))
