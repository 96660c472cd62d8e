"""Labels on every clip of generated videos, as TVSum's annotators and YouTube Highlights' have given them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vtg_lib.data.timeline import Event

ELSEWHERE = 0.1  # how important a clip outside all events seems, where 1 is the most salient one
HIGHLIGHT = 1.2  # of 0..4, from where a lone annotator calls a clip a highlight


def importance(events: list[Event], clips: int, clip_length: float) -> np.ndarray:
    """`[clips]` in 0..1: the salience of the event that a clip shows, `ELSEWHERE` outside."""
    found = np.full(clips, ELSEWHERE)
    for event in events:
        assert event.salience is not None
        first = round(event.start / clip_length)
        found[first : first + len(event.salience)] = event.salience
    return found


def votes(shown: np.ndarray, annotators: int, noise: float, rng: np.random.Generator) -> list[list[Any]]:
    """Labels `[clips][annotators]` of clips of an importance `[clips]` in 0..1.

    Several annotators vote 1 to 5 (TVSum), each with errors of their own of standard deviation `noise` in
    points; one says 1 or 0 (YouTube Highlights).
    """
    felt = 4 * shown[:, None] + noise * rng.standard_normal((len(shown), annotators))
    if annotators == 1:
        return (felt >= HIGHLIGHT).astype(int).tolist()
    return (1 + np.clip(np.round(felt), 0, 4)).tolist()


def labelled(row: dict[str, Any], domain: str, label: list[list[Any]]) -> dict[str, Any]:
    """A row of the QVHighlights layout as one of a highlight data set: labels in place of moments."""
    none = {"relevant_windows": None, "relevant_clip_ids": None}
    kept = {name: row[name] for name in ("qid", "query", "duration", "vid")}
    return {**kept, **none, "label": label, "domain": domain}
