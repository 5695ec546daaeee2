"""The table of strategies as a picture: one SVG, bars on a scale that is straight near zero and logarithmic beyond."""

from __future__ import annotations

import math
from html import escape
from typing import Any

WIDTH, ROW, LEFT, RIGHT = 900, 22, 230, 120
_GOOD, _BAD, _HONEST = "#2a7f4f", "#b3261e", "#2b5fa8"


def _x(value: float, most: float) -> float:
    """Place of a value: sign · log(1 + |value|)."""
    middle, half = LEFT + (WIDTH - LEFT - RIGHT) / 2, (WIDTH - LEFT - RIGHT) / 2
    return middle + math.copysign(math.log1p(abs(value)), value) / math.log1p(most) * half


def strategies_svg(found: dict[str, Any]) -> str:
    """Means and 99.9 % bounds of every strategy; blue: honest roles, red: a cheat that may gain."""
    rows = [(name, one) for name, one in found["strategies"].items() if one["mean"] is not None]
    most = max(1.0, *(abs(one[key]) for _, one in rows for key in ("low", "high")))
    height = ROW * (len(rows) + 2)
    zero = _x(0.0, most)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="16">GSN a duty, mean and 99.9 % bounds, logarithmic; {found["tasks"]} tasks</text>',
        f'<line x1="{zero:.1f}" y1="{ROW}" x2="{zero:.1f}" y2="{height - 4}" stroke="black"/>',
    ]
    for number, (name, one) in enumerate(rows, 1):
        y = ROW * number + 8
        colour = _HONEST if one["honest"] else _GOOD if one["high"] < 0 else _BAD
        mean, low, high = (_x(one[key], most) for key in ("mean", "low", "high"))
        left, width = min(zero, mean), max(1.0, abs(mean - zero))
        lines.append(f'<text x="8" y="{y + 11}">{escape(name)}</text>')
        lines.append(f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="14" fill="{colour}" opacity="0.7"/>')
        lines.append(f'<line x1="{low:.1f}" y1="{y + 7}" x2="{high:.1f}" y2="{y + 7}" stroke="black"/>')
        lines.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y + 11}">{one["mean"]:+.3f}</text>')
    return "\n".join([*lines, "</svg>", ""])
