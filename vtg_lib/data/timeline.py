"""Timelines of events: what happens when in a video, for real annotations and for generated ones.

A concept is a word with a meaning; an event is a span that shows some concepts; a query is one or several
events with the same concepts. The renderer (`vtg_lib.data.render`) turns timelines into features, the same
way for both sources.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FUNCTION_WORDS = frozenset(
    """
    a about after all an and another are around as at back be been before behind being between both but
    by can do does down each for from front get gets go goes going has have he her him his how in inside
    into is it its just like next not of off on one onto or other out outside over own she so some that
    the their them then there they this through to together two up very was we were what when where
    which while who with you your
    """.split()  # noqa: SIM905 (a list would be 91 lines)
)
FIRST_WORD = 1 << 20  # ids below are scenes; words are numbered from here


@dataclass
class Event:
    """A span in which some concepts are shown.

    Attributes:
        start, end: seconds.
        concepts: concept ids.
        salience: `[clips touched]` in 0..1, how visible the concepts are in each clip from `start` on; None =
            1.
        instance: id of the appearance this occurrence has of its own, so that moments of one query differ.
    """

    start: float
    end: float
    concepts: tuple[int, ...]
    salience: np.ndarray | None = None
    instance: int = 0


@dataclass
class Timeline:
    """One video: `events`, and `scenes` as events that tile the whole duration (seconds)."""

    vid: str
    duration: float
    events: list[Event]
    scenes: list[Event]


@dataclass(frozen=True, kw_only=True)
class TimelineConfig:
    """Knobs of what happens in the videos.

    Attributes:
        background_events: share of unannotated time filled with events of other queries. At 0 a moment can be
            found without reading the sentence; at 1 no clip stands out by itself.
        background_seconds: median length of a background event; background_overlap: share of them that show
            some of the concepts of a query of this video. distractor_similarity: how large a share of its
            concepts those show, rounded down, but one at least; at 1 they look like a moment that nobody
            annotated.
        scene_seconds: mean length of a scene.
        scenes: number of scene concepts.
        scene_action: probability that an annotated event's scene is the one its action is tied to (the
            spurious correlation). The action is a generated query's verb, and the second content word of a
            real one. scene_reach: seconds round the event over which that scene extends.
        annotator_noise: standard deviation, in points of 0..4, between annotators of generated saliency.
    """

    background_events: float = 0.6
    background_seconds: float = 12.0
    background_overlap: float = 0.5
    distractor_similarity: float = 0.5
    scene_seconds: float = 25.0
    scenes: int = 24
    scene_action: float = 0.0
    scene_reach: float = 0.0
    annotator_noise: float = 0.7

    def __post_init__(self) -> None:
        for name in ("background_events", "background_overlap", "distractor_similarity", "scene_action"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share in [0, 1], got {getattr(self, name)}")
        if (
            self.scenes < 1
            or min(self.scene_seconds, self.background_seconds) <= 0
            or min(self.annotator_noise, self.scene_reach) < 0
        ):
            raise ValueError(
                "timeline: expected scenes >= 1, lengths > 0 seconds, no negative noise or reach"
            )


class Vocabulary:
    """Words with a meaning, numbered in the order they are met."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.moves: dict[str, bool] = {}  # words of which it is known whether they are actions
        self._ids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.words)

    def add(self, word: str, moves: bool | None = None) -> int:
        """The concept id of `word`, new or known. moves: whether it is an action, where that is known."""
        if moves is not None:
            self.moves[word] = moves
        if word not in self._ids:
            self._ids[word] = FIRST_WORD + len(self.words)
            self.words.append(word)
        return self._ids[word]

    def concepts(self, query: str) -> tuple[int, ...]:
        """Concept ids of the content words of a query, in order, each once."""
        return tuple(
            dict.fromkeys(self.add(stem) for word in tokenize(query) if (stem := content_stem(word)))
        )


def tokenize(query: str) -> list[str]:
    """Lower-case words of a query, without punctuation."""
    return re.findall(r"[a-z0-9']+", query.lower())


def content_stem(word: str) -> str | None:
    """A content word without its plural, verb or progressive ending; None for a function word."""
    if word in FUNCTION_WORDS or len(word) < 2:
        return None
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def complete(
    vid: str,
    duration: float,
    queries: Sequence[tuple[tuple[int, ...], list[Event]]],
    others: Sequence[tuple[int, ...]],
    clip_length: float,
    config: TimelineConfig,
    rng: np.random.Generator,
    scene: int | None = None,
) -> Timeline:
    """Adds scenes and background events to the annotated events of a video.

    Args:
        vid, duration: of the video, seconds; clip_length: seconds.
        queries: per query its concepts and its events.
        others: concepts of the split's queries, which background events draw from.
        config: knobs; rng: the video's own generator.
        scene: one that the video begins with and comes back to; None for none.
    """
    events = [event for _, own in queries for event in own]
    scenes: list[Event] = []
    start = 0.0
    while start < duration:
        end = min(duration, start + max(2 * clip_length, rng.exponential(config.scene_seconds)))
        drawn = int(rng.integers(config.scenes))
        scenes.append(Event(start, end, (drawn if scene is None or len(scenes) % 2 else scene,)))
        start = end
    for concepts, own in queries:
        for event in own:
            if concepts and rng.random() < config.scene_action:
                tied = concepts[min(1, len(concepts) - 1)] % config.scenes
                first, last = event.start - config.scene_reach, event.end + config.scene_reach
                scenes = _put(scenes, Event(max(0.0, first), min(duration, last), (tied,)))
    if config.background_events:
        events += _background(duration, list(events), queries, others, clip_length, config, rng)
    return Timeline(vid, duration, events, scenes)


def _put(scenes: Sequence[Event], scene: Event) -> list[Event]:
    """`scenes`, which tile a video, with `scene` in the place of what was there."""
    pieces = [
        Event(start, end, old.concepts)
        for old in scenes
        for start, end in (
            (old.start, min(old.end, scene.start)),
            (max(old.start, scene.end), old.end),
        )
        if start < end
    ]
    return sorted([*pieces, scene], key=lambda piece: piece.start)


def _background(
    duration: float,
    taken: Sequence[Event],
    queries: Sequence[tuple[tuple[int, ...], list[Event]]],
    others: Sequence[tuple[int, ...]],
    clip_length: float,
    config: TimelineConfig,
    rng: np.random.Generator,
) -> list[Event]:
    """Events of other queries, one after the other through the time that is not taken."""
    events, start = [], 0.0
    while start < duration:
        if inside := [event.end for event in taken if event.start <= start < event.end]:
            start = max(inside)
            continue
        length = max(clip_length, rng.lognormal(np.log(config.background_seconds), 0.8))
        end = min([start + length, duration, *(event.start for event in taken if event.start > start)])
        if rng.random() < config.background_events:
            shown = _borrow(others[int(rng.integers(len(others)))], queries, config, rng)
            salience = np.full(math.ceil((end - start) / clip_length) + 1, rng.uniform(0.5, 1.0))
            events.append(Event(start, end, shown, salience, int(rng.integers(1 << 30))))
        start = end
    return events


def _borrow(
    concepts: Sequence[int],
    queries: Sequence[tuple[tuple[int, ...], list[Event]]],
    config: TimelineConfig,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """`concepts`, now and then some of them replaced by some of the concepts of a query of the video."""
    shown = list(concepts)
    wanted = queries[int(rng.integers(len(queries)))][0] if queries else ()
    if wanted and rng.random() < config.background_overlap:
        number = max(1, int(len(wanted) * config.distractor_similarity + 1e-9))
        kept = rng.permutation(len(wanted))[:number]
        shown[: len(kept)] = [wanted[i] for i in kept][: len(shown)]
    return tuple(dict.fromkeys(shown))


def from_annotations(
    rows: Sequence[dict[str, Any]],
    vocabulary: Vocabulary,
    clip_length: float,
    config: TimelineConfig,
    seed: int,
) -> tuple[list[Timeline], np.ndarray]:
    """Timelines of annotated videos: every query of a video becomes events of its timeline.

    Args:
        rows: QVHighlights layout, with labels; vocabulary: extended in place; clip_length: seconds.

    Returns:
        One timeline per video, and `[N]` the timeline of each row.
    """
    grouped: dict[str, list[int]] = {}
    for row, annotation in enumerate(rows):
        grouped.setdefault(annotation["vid"], []).append(row)
    concepts = [vocabulary.concepts(annotation["query"]) for annotation in rows]
    timelines, index = [], np.zeros(len(rows), np.int64)
    for number, (vid, members) in enumerate(grouped.items()):
        rng = np.random.default_rng([seed, 20, number, 1])
        duration = max(_seconds(rows[m], clip_length) for m in members)
        queries = [(concepts[m], _annotated_events(rows[m], concepts[m], clip_length, rng)) for m in members]
        timelines.append(complete(vid, duration, queries, concepts, clip_length, config, rng))
        index[members] = number
    return timelines, index


def _seconds(row: dict[str, Any], clip_length: float) -> float:
    """A video's length, a clip for each label where clips are labelled: TVSum's `duration` counts clips, and
    those of YouTube Highlights overlap.
    """
    return clip_length * len(row["label"]) if row.get("label") else float(row["duration"])


def _labelled_events(
    row: dict[str, Any], concepts: tuple[int, ...], clip_length: float, rng: np.random.Generator
) -> list[Event]:
    """What the labels of every clip say is shown: to several annotators one event through the whole video,
    as salient as they vote between its worst and its best clip; to one, an event for each run of highlights.
    """
    votes = np.asarray(row["label"], float)
    if votes.shape[1] > 1:
        mean = votes.mean(1)
        salience = (mean - mean.min()) / max(float(np.ptp(mean)), 1e-6)
        runs = [(0, len(mean))]
    else:
        salience = np.where(votes[:, 0] > 0, 0.75, 0.0)
        edges = np.flatnonzero(np.diff(salience > 0, prepend=False, append=False))
        runs = [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
    return [
        Event(
            *(first * clip_length, last * clip_length, concepts),
            salience=salience[first:last],
            instance=int(rng.integers(1 << 30)),
        )
        for first, last in runs
    ]


def _annotated_events(
    row: dict[str, Any], concepts: tuple[int, ...], clip_length: float, rng: np.random.Generator
) -> list[Event]:
    if row.get("label"):
        return _labelled_events(row, concepts, clip_length, rng)
    scores = {}
    if row.get("saliency_scores"):
        totals = np.asarray(row["saliency_scores"], float).mean(1) / 4
        scores = dict(zip(row["relevant_clip_ids"], totals, strict=True))
    events = []
    for start, end in row.get("relevant_windows") or []:
        first, last = int(start / clip_length), int(np.ceil(end / clip_length))
        salience = np.array([scores.get(clip, 0.75) for clip in range(first, max(last, first + 1))])
        events.append(Event(float(start), float(end), concepts, salience, int(rng.integers(1 << 30))))
    return events
