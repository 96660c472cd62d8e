"""How right pseudo-labels are, by threshold and by how alike the distractors are to the caption.

Which reading of Eq. 17 is better in the generated world is a finding about that world; it does not tell which
one the authors used.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from vtg_lib.data import load_data
from vtg_lib.data.batches import GroundingData
from vtg_lib.data.generate import CLIP_LENGTH
from vtg_lib.data.knobs import configs, resolve
from vtg_lib.data.pseudo.labels import LabelConfig, PseudoLabels, Threshold, captioned_clips, label
from vtg_lib.data.pseudo.world import (
    Interval,
    interval_labels,
    intervals,
    pseudo_labels,
    quality,
    scores_of,
)

SIMILARITIES = (0.2, 0.5, 0.8)
INTERVAL = "interval"  # in the place of a threshold: the captioned interval alone
_LABELS = {part.name for part in dataclasses.fields(LabelConfig)}
WORLD = {"kind": "sim", "train": 1024, "val": 1, "semantic_dim": 64, "motion_dim": 2}


def measure(
    spec: Mapping[str, Any] | None = None,
    *,
    similarities: Sequence[float] = SIMILARITIES,
    thresholds: Sequence[Threshold] = get_args(Threshold),
    settings: PseudoLabels | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Precision and recall of labels on the training split of a rendered world.

    Args:
        spec: of the world, over `WORLD`; similarities: values of its knob `distractor_similarity`.
        thresholds: readings of Eq. 17; settings: the other choices.
        seed: of the world, and of which moments are named.

    Returns:
        One dict for each similarity and threshold, and for the captioned interval alone: both of them, and
        what `quality` gives.

    Raises:
        ValueError: see `load_data`.
    """
    rows = []
    settings = settings or PseudoLabels()
    for similarity in similarities:
        world = {**WORLD, "seed": seed, **(spec or {}), "distractor_similarity": similarity}
        data = load_data(world)["train"]
        named = intervals(data, seed)
        made = {
            rule: pseudo_labels(data, dataclasses.replace(settings, threshold=rule), named)
            for rule in thresholds
        }
        for rule, labels in ({INTERVAL: interval_labels(data, settings, named)} | made).items():
            found = quality(data, labels, named)
            rows.append({"distractor_similarity": similarity, "threshold": rule, **found})
    return rows


def of_spec(spec: Mapping[str, Any], captions: int = 256) -> dict[str, Any] | None:
    """How right the labels are that the training split of a generated world has.

    Args:
        spec: of the world, with its label knobs; captions: that are judged, the first ones. The first rows of
            a world do not depend on how many there are.

    Returns:
        What `quality` gives; of true labels precisions and recalls of 1 alone; None for permuted
        captions, which speak of other videos, so that nothing is right or wrong.

    Raises:
        ValueError: not a generated world; see `load_data`.
    """
    whole = resolve(spec)
    if whole["kind"] != "sim":
        raise ValueError(f"quality of labels: expected a generated world, got kind {whole['kind']!r}")
    config, seed = configs(whole)[3], whole["seed"]
    if config.labels == "permuted":
        return None
    if config.labels == "true":
        right = {"precision": 1.0, "recall": 1.0}
        return {"clips": right, "moments": right, "unnamed": 1.0}
    sizes = {"train": min(whole["train"], captions), "val": 1, "test": 0}
    world = {name: value for name, value in whole.items() if name not in _LABELS}
    data = _true_labels(json.dumps({**world, **sizes}, sort_keys=True))
    named = intervals(data, seed)
    make = interval_labels if config.labels == "interval" else pseudo_labels
    return quality(data, make(data, config.settings, named), named)


@functools.lru_cache(maxsize=8)
def _true_labels(spec: str) -> GroundingData:
    return load_data(json.loads(spec))["train"]


def example(
    data: GroundingData, row: int, interval: Interval, settings: PseudoLabels, threshold: float | None = None
) -> dict[str, Any]:
    """One caption and its video, for an explorer: what is seen, what is made of it, and how right that is.

    Args:
        data: with its true labels; row: of it; interval: that the caption names, seconds.
        threshold: in the place of Eq. 17's.

    Returns:
        JSON: `query`, `clip_length`, `scores` `[T]`, `captioned` `[T]` (booleans), `threshold`, `grades`
        `[T]` (0 outside of moments), the fields of the made row, `truth` (the windows that are shown) and
        what `quality` gives of this row.

    Raises:
        ValueError: see `label`.
    """
    scores = scores_of(data, row)
    captioned = captioned_clips(interval, len(scores))
    made, annotation = label(scores, captioned, settings, threshold), data.annotations[row]
    return {
        "query": annotation["query"],
        "clip_length": CLIP_LENGTH,
        "scores": scores.tolist(),
        "captioned": captioned.tolist(),
        "threshold": made.threshold,
        "grades": made.grades.tolist(),
        **made.fields(annotation["duration"]),
        "truth": annotation["relevant_windows"],
        **quality(data.rows([row]), [made], [interval]),
    }
