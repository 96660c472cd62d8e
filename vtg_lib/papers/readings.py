"""The number of a stored run that a claim is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtg_lib.papers.questions import Claim
    from vtg_lib.papers.schema import Paper

Record = Mapping[str, Any]
Read = Callable[[Record], float | None]


def reader(paper: Paper, claim: Claim) -> Read:
    """What a run's number is."""
    if claim.measure is not None:
        from vtg_lib.diagnostics import VIEWS

        name, number = claim.measure, VIEWS[claim.measure].number
        if number is None:
            raise ValueError(f"claim {claim.key!r}: diagnostic {name!r} has no single number")

        def measured(record: Record) -> float | None:
            after = record.get("diagnostics", {}).get(name, {}).get("after")
            return number(after) if after else None

        return measured
    column = paper.table(claim.treated[0]).column(claim.column or "")
    if claim.reach is not None:
        share = claim.reach

        def reached(record: Record) -> float | None:
            curves = record["curves"]
            return epochs_to_share(curves["epoch"], curves.get(column.metric, []), share)

        return reached

    def scored(record: Record) -> float | None:
        value: float | None = record["metrics"].get(column.split, {}).get(column.metric)
        return value

    return scored


def epochs_to_share(epochs: Sequence[float], values: Sequence[float], share: float = 0.9) -> float | None:
    """Epochs until a curve first has `share` of its last value, between two evaluations in proportion.

    Before the first evaluation it starts at 0. None where it ends there.
    """
    steps, values = [0.0, *epochs], [0.0, *values]
    goal = share * values[-1]
    if goal <= 0:
        return None
    after = next(i for i, value in enumerate(values) if value >= goal)
    part = (goal - values[after - 1]) / (values[after] - values[after - 1])
    return steps[after - 1] + part * (steps[after] - steps[after - 1])


def curve_reader(paper: Paper, claim: Claim, share: float) -> Read:
    """The number on validation at the last evaluation within a share of the training."""
    column = paper.table(claim.treated[0]).column(claim.column or "")

    def read(record: Record) -> float | None:
        curves, epochs = record["curves"], record["spec"]["train"]["epochs"]
        values = curves.get(column.metric, [])
        within = [v for epoch, v in zip(curves["epoch"], values, strict=False) if epoch <= share * epochs]
        return within[-1] if within else None

    return read
