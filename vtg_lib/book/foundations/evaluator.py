"""Views on the evaluator: one query worked through, what the annotations decide, and what its habits move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.page import items, joined, paragraph, part, percent, source
from vtg_lib.book.tables import table
from vtg_lib.evaluation.per_query import METHODS

if TYPE_CHECKING:
    from IPython.display import HTML


@part("evaluator")
def worked_figure(chapter: Foundations) -> HTML:
    """One query's ranking and its precision-recall curve."""
    worked = chapter.found["evaluator"]["worked"]
    truth = ", ".join(f"{start:.0f} to {end:.0f} s" for start, end in worked["relevant_windows"])
    right = [str(rank) for rank, step in enumerate(worked["steps"], 1) if step["0.5"] is not None]
    alt = (
        f"Ten predictions of {worked['method']} for “{worked['query']}”, true moments {truth}. At IoU 0.5 the predictions of "
        f"rank {' and '.join(right)} take a moment; the area under the precision envelope is {worked['ap']['0.5']:.2f}."
    )
    caption = (
        f"“{worked['query']}” (query {worked['qid']}), {worked['method']}. Filled: takes a true moment at IoU 0.5. "
        + source(chapter, "evaluator")
    )
    return plots.show(figures.ranking(worked), alt, caption)


@part("evaluator")
def worked_steps(chapter: Foundations) -> HTML:
    """What the worked example comes to, step by step."""
    worked = chapter.found["evaluator"]["worked"]
    steps, ap, brief = worked["steps"], worked["ap"], worked["brief"]
    spans = [f"{start:g} to {end:g} s" for start, end in worked["relevant_windows"]]
    lines = []
    for level in ("0.5", "0.75"):
        found = [
            f"rank {rank} takes {spans[step[level]]} (IoU {step['iou']:.2f})"
            for rank, step in enumerate(steps, 1)
            if step[level] is not None
        ]
        locked = [
            f"rank {rank} reaches IoU {step['iou']:.2f} too, but its moment is taken"
            for rank, step in enumerate(steps, 1)
            if step[level] is None and step["iou"] >= float(level)
        ]
        lines.append(f"**AP at IoU {level}**: {'; '.join([*found, *locked])}. Area {ap[level]:.4f}.")
    lines.append(f"**mAP** of the query: the mean of ten such areas, {100 * ap['mean']:.2f}.")
    r1 = [f"{level} {'yes' if worked['r1'] >= float(level) else 'no'}" for level in ("0.5", "0.7")]
    lines.append(
        f"**R1**: the first row of the file has IoU {worked['r1']:.4f} with its nearest moment: {', '.join(r1)}."
    )
    votes = ", ".join(map(str, worked["votes"]))
    lines.append(
        f"**HIT@1**: the clip of highest saliency is number {worked['top_clip']}, the three annotators gave it {votes}; the "
        f"best of them counts, and “VeryGood” asks for 4: {'a hit' if max(worked['votes']) >= 4 else 'a miss'}."
    )
    lines.append(
        f"**HD mAP** of the query: AP of the ranked clips against each annotator's clips of score 4, mean of the three, "
        f"{brief['HL-min-VeryGood-mAP']:.2f}."
    )
    return items(lines)


@part("evaluator")
def bounds_list(chapter: Foundations) -> HTML:
    """What the annotations decide before any model is asked."""
    b = chapter.found["evaluator"]["bounds"]
    return items(
        [
            f"{b['over_ten']} of {b['queries']} val queries have more than ten moments, and only ten predictions are looked "
            f"at: perfect predictions reach an mAP of **{b['perfect_map']:.2f}**.",
            f"{b['at_10']}, {b['at_30']} and {b['at_150']} of {b['windows']} moments are exactly 10, 30 and 150 s long: on "
            "which side a range is closed decides where they count. They count in the shorter one.",
            f"{percent(b['no_positive'])} of the pairs of query and annotator have no clip of score 4, and their AP is 0 "
            "whatever is predicted. A model that returned the sum of the three annotators' own scores would get an HD mAP of "
            f"**{b['perfect_hd']:.2f}** and a HIT@1 of **{b['perfect_hit']:.2f}**.",
        ]
    )


@part("evaluator")
def habits_table(chapter: Foundations) -> HTML:
    """How often released predictions meet the evaluator's habits, and what these move."""
    rows = [
        {
            "predictions": METHODS[name],
            f"queries with tied windows, of {h['queries']}": h["tied_windows"],
            "mAP moves by, ties broken at random": _moved(h["windows_random"]),
            "queries whose first row is not the best scored": h["unsorted"],
            "queries with tied saliency": h["tied_saliency"],
            "HD mAP moves by, ties broken at random": _moved(h["saliency_random"]),
            "queries with saliency one clip short": h["one_short"],
            "HD mAP moves by, saliency lifted above 0": f"{h['lifted']:+.2f}",
            "windows without length": h["no_length"],
            "mAP short": f"{h['short']:.2f}",
            "mAP short, with short predictions alone": f"{h['short_kept']:.2f}",
        }
        for name, h in chapter.found["evaluator"]["habits"].items()
    ]
    return joined(table(rows, across=True), paragraph(source(chapter, "evaluator")))


@part("evaluator")
def habits_told(chapter: Foundations) -> HTML:
    """What ties are worth, beside the differences between methods."""
    habits = chapter.found["evaluator"]["habits"]
    gains = {name: float(np.mean(h["saliency_random"])) for name, h in habits.items()}
    most = max(gains, key=lambda name: gains[name])
    scores = {name: chapter.scores.get(f"{name}_val", {}).get("HL-min-VeryGood-mAP") for name in habits}
    known = sorted(value for value in scores.values() if value is not None)
    close = sum(abs(a - b) <= gains[most] for i, a in enumerate(known) for b in known[i + 1 :])
    windows = max(abs(value) for h in habits.values() for value in h["windows_random"])
    return items(
        [
            f"Breaking ties of saliency at random instead of as one threshold raises HD mAP most for {METHODS[most]}, by "
            f"**{gains[most]:+.2f}**; {close} of {len(known) * (len(known) - 1) // 2} pairs of these methods are "
            "no further apart than that.",
            f"Breaking ties between windows at random moves no mAP by more than **{windows:.2f}**.",
        ]
    )


def _moved(values: list[float]) -> str:
    array = np.asarray(values)
    return f"{array.mean():+.3f} ± {array.std(ddof=1):.3f}" if len(array) > 1 else f"{array.mean():+.3f}"
