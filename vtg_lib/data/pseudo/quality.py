"""How right pseudo-labels are, by threshold and by how alike the distractors are to the caption.

Which reading of Eq. 17 is better in the generated world is a finding about that world; it does not tell which
one the authors used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from vtg_lib.data import load_data
from vtg_lib.data.pseudo.labels import PseudoLabels, Threshold
from vtg_lib.data.pseudo.world import interval_labels, pseudo_labels, quality

SIMILARITIES = (0.2, 0.5, 0.8)
INTERVAL = "interval"  # in the place of a threshold: the captioned interval alone
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
        made = {
            rule: pseudo_labels(data, dataclasses.replace(settings, threshold=rule), seed)
            for rule in thresholds
        }
        for rule, labels in ({INTERVAL: interval_labels(data, settings, seed)} | made).items():
            found = quality(data, labels, seed)
            rows.append({"distractor_similarity": similarity, "threshold": rule, **found})
    return rows
