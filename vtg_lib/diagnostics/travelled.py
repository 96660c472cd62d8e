"""How far do weights go in training, from where they start? (SG-DETR, WACV 2026, Sec. 4.3.2)

A run that starts from a pretrained one should have less of a way to go; which of its parts go far tells what
pretraining has not given.
"""

from __future__ import annotations

from collections import defaultdict

from torch import nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.origin import origin_of
from vtg_lib.diagnostics.topic import Record, Table, View, rounded

WHOLE = "all"


def measure(model: nn.Module, data: GroundingData) -> Record:
    """The length of what training added to the parameters, relative to the length of the initial ones (L2).

    Returns:
        part of the model, and `all` of it -> the ratio, None where the initial ones are all zero. Empty where
        the initial ones are not known.
    """
    origin = origin_of(data)
    if origin is None:
        return {}
    initial = origin.initial()
    moved, length = defaultdict[str, float](float), defaultdict[str, float](float)
    for name, now in model.named_parameters():
        first, last = initial[name].double(), now.detach().cpu().double()
        for part in (origin.part(name), WHOLE):
            moved[part] += float((last - first).square().sum())
            length[part] += float(first.square().sum())
    return {
        part: rounded((moved[part] / length[part]) ** 0.5) if length[part] else None for part in sorted(moved)
    }


VIEW = View(
    title="Distance from the initial weights",
    number=lambda record: record[WHOLE],
    table=Table(rows=lambda record: {"": record}, digits=3),
)
