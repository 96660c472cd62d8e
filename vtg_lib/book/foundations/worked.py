"""One query worked through: from ranked predictions to the evaluator's numbers, as a figure and in words.

A query is what `vtg_lib.book.foundations.record.worked_query` returns, of released predictions or of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures

if TYPE_CHECKING:
    from IPython.display import HTML


def figure(worked: Mapping[str, Any], source: str) -> HTML:
    """A query's ranking and its precision-recall curve."""
    truth = ", ".join(f"{start:.0f} to {end:.0f} s" for start, end in worked["relevant_windows"])
    right = [str(rank) for rank, step in enumerate(worked["steps"], 1) if step["0.5"] is not None]
    alt = (
        f"Ten predictions of {worked['method']} for “{worked['query']}”, true moments {truth}. At IoU 0.5 the"
        f" predictions of rank {' and '.join(right)} take a moment; the area under the precision envelope is"
        f" {worked['ap']['0.5']:.2f}."
    )
    caption = (
        f"“{worked['query']}” (query {worked['qid']}), {worked['method']}. Filled: takes a true moment at IoU"
        f" 0.5. {source}"
    )
    return plots.show(figures.ranking(worked), alt, caption)


def steps(worked: Mapping[str, Any]) -> list[str]:
    """What it comes to, step by step."""
    ap, votes = worked["ap"], worked["votes"]
    spans = [f"{start:g} to {end:g} s" for start, end in worked["relevant_windows"]]
    told: dict[str, list[str]] = {}
    for level in ("0.5", "0.75"):
        ranks = [(rank, step[level], step["iou"]) for rank, step in enumerate(worked["steps"], 1)]
        told[level] = [
            f"rank {n} takes {spans[to]} (IoU {iou:.2f})" for n, to, iou in ranks if to is not None
        ]
        told[level] += [
            f"rank {n} reaches IoU {iou:.2f} too, but its moment is taken"
            for n, to, iou in ranks
            if to is None and iou >= float(level)
        ]
    r1 = [f"{level} {'yes' if worked['r1'] >= float(level) else 'no'}" for level in ("0.5", "0.7")]
    return [
        *(
            f"**AP at IoU {level}**: {'; '.join(told[level] or ['nothing reaches it'])}. "
            f"Area {ap[level]:.4f}."
            for level in told
        ),
        f"**mAP** of the query: the mean of ten such areas, {100 * ap['mean']:.2f}.",
        (
            f"**R1**: the first row of the file has IoU {worked['r1']:.4f} with its nearest moment: "
            f"{', '.join(r1)}."
        ),
        (
            f"**HIT@1**: the clip of highest saliency is number {worked['top_clip']}, the three"
            f" annotators gave it {', '.join(map(str, votes))}; the best of them counts, and “VeryGood”"
            f" asks for 4: {'a hit' if max(votes) >= 4 else 'a miss'}."
        ),
        (
            "**HD mAP** of the query: AP of the ranked clips against each annotator's clips of score 4,"
            f" mean of the three, {worked['brief']['HL-min-VeryGood-mAP']:.2f}."
        ),
    ]
