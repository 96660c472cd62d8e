"""Does a score say how good an answer is? (SG-DETR, WACV 2026, Sec. 3.6)"""

from __future__ import annotations

from torch import nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.topic import Lines, Record, Table, View, rounded, text
from vtg_lib.evaluation.per_query import Ranked, reliability
from vtg_lib.models.inference import predict

LEVELS = (0.5, 0.7)  # IoU from which on an answer is right
BINS = 10


def measure(model: nn.Module, data: GroundingData) -> Record:
    """The first answer's score against its being right.

    Returns:
        level -> {ece: expected calibration error; score, right: by bin of the score, None where it is empty},
        and `middle` of the bins. Empty for data without moments, and where a score lies outside 0..1.
    """
    rows = [n for n, row in enumerate(data.annotations) if row["relevant_windows"]]
    if not rows:
        return {}
    answers = predict(model, data)
    ranked = Ranked.join([answers[n] for n in rows], [data.annotations[n] for n in rows])
    score, best = ranked.scores[:, 0], ranked.best[:, 0]
    if not ((score >= 0) & (score <= 1)).all():
        return {}
    found: Record = {"middle": [rounded((n + 0.5) / BINS) for n in range(BINS)]}
    for level in LEVELS:
        made = reliability(score, (best >= level).astype(float), BINS)
        right = [None if value is None else rounded(value) for value in made["outcome"]]
        found[f"{level:g}"] = {"ece": rounded(made["ece"]), "right": right}
    return found


def _row(record: Record) -> dict[str, dict[str, float]]:
    return {"": {f"ECE, IoU ≥ {level:g}": 100 * record[f"{level:g}"]["ece"] for level in LEVELS}}


VIEW = View(
    title="Scores and right answers",
    number=lambda record: 100 * record["0.7"]["ece"],
    head="calibration\nerror (%)",
    table=Table(rows=_row, digits=1),
    figure=Lines(
        value=lambda record: record["0.7"]["right"],
        along=lambda record: record["middle"],
        xlabel="score of the first answer",
        ylabel="share with IoU of 0.7 or more",
        told=lambda record: f"expected calibration error {text(record['0.7']['ece'], '.2f')}",
        caption="Share of first answers that reach IoU 0.7, by their score, in ten bins; bands: 95 % "
        "interval over seeds.",
    ),
)
