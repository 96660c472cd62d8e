"""Moments in the free text of language models: "from 4.0 to 10.0 seconds", "00:12 - 00:18", "14s-20s"."""

from __future__ import annotations

import re
from typing import Literal

Unit = Literal["seconds", "fraction", "percent"]
_NUMBER = r"(?:(?:\d+:)?\d+:\d+(?:\.\d+)?|\d+(?:\.\d+)?)"
_UNIT = r"(?:seconds?|secs?|s|minutes?|mins?|m|percent|%|frames?)(?![a-z])"
_TIME = rf"({_NUMBER})\s*({_UNIT})?"
_BETWEEN = r"\s*(?:-|–|—|~|to|until|till|through|and|,|;)\s*(?:the\s+)?(?:end\w*\s*(?:time|at)?\s*[:=]?\s*)?"
_RANGE = re.compile(rf"(?<![\w.:]){_TIME}{_BETWEEN}{_TIME}", re.IGNORECASE)


def windows(text: str, duration: float, unit: Unit | None = None) -> list[list[float]]:
    """[start, end] in seconds of every range of times, in the order of the text; none where nothing tells.

    Args:
        duration: of the video, seconds.
        unit: of bare numbers, which are not guessed at: without it, a range counts only if it names a unit
            or has colons. Percent and fraction are of the video's length.
    """
    found = []
    for start, start_unit, end, end_unit in _RANGE.findall(text):
        units = (start_unit or end_unit, end_unit or start_unit)
        pair = [
            _seconds(number, name, duration, unit) for number, name in zip((start, end), units, strict=True)
        ]
        if None not in pair and pair[0] < pair[1]:  # type: ignore[operator]
            found.append([value for value in pair if value is not None])
    return found


def _seconds(number: str, name: str, duration: float, unit: Unit | None) -> float | None:
    if ":" in number:
        return sum(float(part) * 60**place for place, part in enumerate(reversed(number.split(":"))))
    value, name = float(number), name.lower()
    if name.startswith("frame"):
        return None
    if name in ("%", "percent") or (not name and unit == "percent"):
        return value / 100 * duration
    if not name:
        return {None: None, "seconds": value, "fraction": value * duration}.get(unit)
    return 60 * value if name.startswith("m") else value
