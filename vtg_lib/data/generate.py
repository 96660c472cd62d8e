"""Generated annotations (`sim`): queries of a small grammar over generated timelines, in the QVHighlights
layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg_lib.data.timeline import FIRST_WORD, Event, Timeline, TimelineConfig, Vocabulary, complete

SPLITS = ("train", "val", "test")
CLIP_LENGTH = 2.0  # seconds, as in QVHighlights
# Windows per query in QVHighlights train (67 % one, 17 % two, 6 % three, the rest four or five)
MOMENTS_PER_QUERY = (0.67, 0.17, 0.08, 0.05, 0.03)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Sizes and statistics of a generated world.

    Attributes:
        train, val, test: queries (one a video); without test there is no such split. clips: per video, of 2
            seconds.
        subjects, actions, objects, attributes: words of each kind.
        moments: probabilities of 1, 2, … moments per query.
        saliency: whether annotators voted on the clips of the moments, as in QVHighlights but not in
            Charades-STA and TACoS.
        window_median: seconds; window_sigma: of the logarithm. QVHighlights has 16 s and 0.95 in videos of
            150 s.
    """

    train: int = 4096
    val: int = 512
    test: int = 0
    clips: int = 32
    subjects: int = 6
    actions: int = 6
    objects: int = 6
    attributes: int = 3
    moments: tuple[float, ...] = MOMENTS_PER_QUERY
    window_median: float = 10.0
    window_sigma: float = 0.8
    saliency: bool = True

    def __post_init__(self) -> None:
        if (
            min(self.train, self.val, self.subjects, self.actions, self.objects, self.attributes) < 1
            or self.test < 0
            or self.clips < 4
        ):
            raise ValueError("world: expected at least one query and word of each kind, and 4 clips")
        if abs(sum(self.moments) - 1) > 1e-6 or min(self.moments) < 0:
            raise ValueError(f"world: expected moment probabilities that sum to 1, got {self.moments}")


def generate(
    config: WorldConfig, timeline: TimelineConfig, vocabulary: Vocabulary, split: str, seed: int
) -> tuple[list[dict[str, Any]], list[Timeline], np.ndarray]:
    """Annotations, timelines and the timeline of each annotation, for `split` train, val or test.

    The splits share words and grammar; their videos are independent draws.
    """
    kinds = [
        [vocabulary.add(f"{kind}{number}") for number in range(getattr(config, f"{kind}s"))]
        for kind in ("subject", "action", "object", "attribute")
    ]
    part = SPLITS.index(split)
    draw = np.random.default_rng([seed, 21, part, 1])
    others = [
        tuple(int(c) for c in words) for words in np.stack([draw.choice(kind, 256) for kind in kinds], 1)
    ]
    rows, timelines = [], []
    for number in range(getattr(config, split)):
        rng = np.random.default_rng([seed, 22, part, number, 1])
        concepts = tuple(int(rng.choice(kind)) for kind in kinds)
        duration = config.clips * CLIP_LENGTH
        windows = _windows(config, duration, rng)
        events = [_event(start, end, concepts, rng) for start, end in windows]
        vid = f"{split}{number}"
        row = _annotation(vid, number, _sentence(concepts, vocabulary, rng), duration, events, timeline, rng)
        if not config.saliency:
            del row["saliency_scores"]
        rows.append(row)
        timelines.append(complete(vid, duration, [(concepts, events)], others, CLIP_LENGTH, timeline, rng))
    return rows, timelines, np.arange(len(rows))


def _windows(config: WorldConfig, duration: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Windows on the clip grid that neither overlap nor touch."""
    count = int(rng.choice(len(config.moments), p=config.moments)) + 1
    lengths = np.exp(rng.normal(np.log(config.window_median), config.window_sigma, count))
    clips = np.clip(np.round(lengths / CLIP_LENGTH), 1, config.clips).astype(int)
    while len(clips) > 1 and clips.sum() + len(clips) - 1 > config.clips:
        clips = clips[:-1]
    free = config.clips - int(clips.sum()) - (len(clips) - 1)
    gaps = np.sort(rng.integers(0, free + 1, len(clips)))
    starts = gaps + np.concatenate([[0], np.cumsum(clips[:-1] + 1)])
    return [
        (float(s * CLIP_LENGTH), float((s + n) * CLIP_LENGTH)) for s, n in zip(starts, clips, strict=True)
    ]


def _event(start: float, end: float, concepts: tuple[int, ...], rng: np.random.Generator) -> Event:
    """An event whose salience drifts from clip to clip."""
    clips = round((end - start) / CLIP_LENGTH)
    drift = 0.25 * rng.standard_normal(clips).cumsum() / np.sqrt(np.arange(1, clips + 1))
    salience = np.clip(rng.normal(0.75, 0.15) + drift, 0.25, 1.0)
    return Event(start, end, concepts, salience, int(rng.integers(1 << 30)))


def _sentence(concepts: tuple[int, ...], vocabulary: Vocabulary, rng: np.random.Generator) -> str:
    subject, action, thing, attribute = (vocabulary.words[c - FIRST_WORD] for c in concepts)
    patterns = (
        "a {a} {s} {v} the {o}",
        "the {s} with a {a} {o} {v} it",
        "{s} {v} and then the {a} {o} is there",
    )
    return patterns[rng.integers(len(patterns))].format(s=subject, v=action, o=thing, a=attribute)


def _annotation(
    vid: str,
    qid: int,
    query: str,
    duration: float,
    events: list[Event],
    config: TimelineConfig,
    rng: np.random.Generator,
) -> dict[str, Any]:
    clips: list[int] = []
    scores: list[list[int]] = []
    for event in events:
        assert event.salience is not None
        first = round(event.start / CLIP_LENGTH)
        clips += range(first, first + len(event.salience))
        votes = 4 * event.salience[:, None] + config.annotator_noise * rng.standard_normal(
            (len(event.salience), 3)
        )
        scores += np.clip(np.round(votes), 0, 4).astype(int).tolist()
    return {
        "qid": qid,
        "query": query,
        "duration": int(duration),
        "vid": vid,
        "relevant_windows": [[event.start, event.end] for event in events],
        "relevant_clip_ids": clips,
        "saliency_scores": scores,
    }
