"""How much does a foreign context cost? (TD-DETR, ICCV 2025, Table S5)"""

from __future__ import annotations

from torch import nn

from vtg_lib.data import views
from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.topic import Record, Table, View, rounded
from vtg_lib.models.inference import evaluate_model


def measure(model: nn.Module, data: GroundingData) -> Record:
    """mAP and R1@0.7 in percent on the split and on the split with another video's context.

    Returns:
        `standard` and `dynamic`: {map, r1}; `lost`: the share of the standard mAP that is lost.
    """
    found = {}
    for name, view in (("standard", data), ("dynamic", views.dynamic_context(data))):
        brief = evaluate_model(model, view)["brief"]
        found[name] = {"map": brief["MR-full-mAP"], "r1": brief["MR-full-R1@0.7"]}
    standard, dynamic = found["standard"]["map"], found["dynamic"]["map"]
    return {**found, "lost": rounded((standard - dynamic) / standard) if standard else 0.0}


VIEW = View(
    title="Moments in another video's context",
    number=lambda record: 100 * record["lost"],
    head="mAP lost in\nanother context (%)",
    table=Table(
        rows=lambda record: {
            "": {
                "standard mAP": record["standard"]["map"],
                "mAP": record["dynamic"]["map"],
                "R1@0.7": record["dynamic"]["r1"],
                "lost, % of standard": 100 * record["lost"],
            }
        },
        digits=1,
    ),
)
