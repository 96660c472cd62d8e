"""Views on released predictions query by query: calibration, recall, agreement, the explorer, and the chapter
in sentences.

Two methods are "apart" when the 95 % interval of their difference over queries excludes 0, else "within the
noise of queries".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.page import items, paragraph, part, percent, source
from vtg_lib.book.foundations.rows import RERUN, checked, released_epochs
from vtg_lib.book.tables import table
from vtg_lib.evaluation.per_query import COUNTS, LENGTH_EDGES, METHODS, RIGHT
from vtg_lib.papers import quotes as printed

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import HTML

APART, NOISE = "apart", "within the noise of queries"


@part("predictions")
def calibration_figure(chapter: Foundations) -> HTML:
    """Reliability curves."""
    methods = {name: found["calibration"] for name, found in chapter.found["predictions"]["methods"].items()}
    told = "; ".join(
        f"{METHODS[name]}: expected calibration error {c['first']['ece']:.2f}" for name, c in methods.items()
    )
    alt = f"Reliability curves, mean IoU by score, of the first and of all ten predictions. First predictions: {told}."
    left_out = f"Bins with fewer than {figures.FEWEST} predictions are left out."
    caption = f"{left_out} Dashed: score equals IoU. {source(chapter, 'predictions')}"
    return plots.show(figures.reliability(methods), alt, caption)


@part("predictions")
def calibration_table(chapter: Foundations) -> HTML:
    """Calibration errors, rank correlations, and what a perfect ranking of the same windows would reach."""
    rows = []
    for name, found in chapter.found["predictions"]["methods"].items():
        c, score = found["calibration"], chapter.scores.get(f"{name}_val", {})
        rows.append(
            {
                "method": METHODS[name],
                "first prediction: score − IoU, mean": f"{_bias(c['first']):+.2f}",
                "first prediction: ECE": c["first"]["ece"],
                f"first prediction: ECE against “IoU ≥ {RIGHT}”": c["ece_right"],
                "all ten: ECE": c["all"]["ece"],
                "rank correlation of score and IoU, first predictions of all queries": c["rank_first"],
                "rank correlation of score and IoU, within a query": c["rank_within"],
                "mAP": score.get("MR-full-mAP"),
                "mAP, perfectly ranked": found["reordered"]["MR-full-mAP"],
                "R1@0.5": score.get("MR-full-R1@0.5"),
                "R1@0.5, perfectly ranked": found["reordered"]["MR-full-R1@0.5"],
            }
        )
    return table(rows, across=True)


def _bias(curve: dict[str, Any]) -> float:
    """Mean score less mean outcome over all predictions of a reliability curve."""
    count = np.array(curve["count"], dtype=float)
    gap = np.array(
        [0.0 if s is None else s - o for s, o in zip(curve["score"], curve["outcome"], strict=True)]
    )
    return float((count * gap).sum() / count.sum())


# ---------------------------------------------------------------------------------------------------- recall,
# agreement


@part("predictions")
def recall_figure(chapter: Foundations) -> HTML:
    """Recall by length of the moment and by moments of the query."""
    methods = chapter.found["predictions"]["methods"]
    told = "; ".join(
        f"{METHODS[name]} meets {percent(found['length']['any'][0])} of the moments up to {LENGTH_EDGES[1]:g} s and "
        f"{percent(found['length']['any'][4])} of those of {LENGTH_EDGES[4]:g} to {LENGTH_EDGES[5]:g} s with any of ten"
        for name, found in methods.items()
    )
    n = next(iter(methods.values()))
    counts = ", ".join(
        f"{number} of {k}{'+' if k == COUNTS[-1] else ''}"
        for k, number in zip(COUNTS, n["count"]["n"], strict=True)
    )
    caption = f"Met: IoU of {RIGHT} or more. Queries by moments: {counts}. {source(chapter, 'predictions')}"
    return plots.show(
        figures.recall(methods),
        f"Recall by length of the moment and by moments of the query. {told}.",
        caption,
    )


@part("predictions")
def repeats_table(chapter: Foundations) -> HTML:
    """Queries with several moments: of the first k predictions, how many meet a moment that one before them
    met already.
    """
    rows = [
        {"method": METHODS[name]}
        | {
            f"k = {k}{'+' if k == COUNTS[-1] else ''} (%)": 100 * value
            for k, value in zip(COUNTS, found["count"]["repeats"], strict=True)
            if k > 1
        }
        for name, found in chapter.found["predictions"]["methods"].items()
    ]
    return table(rows, digits=1)


@part("predictions")
def agreement_figure(chapter: Foundations) -> HTML:
    """How alike the methods' first predictions and their per-query AP are."""
    names = list(METHODS)
    square = np.full((2, len(names), len(names)), np.nan)
    for pair in chapter.found["predictions"]["pairs"]:
        i, j = (names.index(name) for name in pair["of"])
        square[:, i, j] = square[:, j, i] = pair["iou"], pair["rank"]
    low, high = np.nanmin(square[1]), np.nanmax(square[1])
    alt = (
        f"Square of five methods. Rank correlations of AP over queries lie between {low:.2f} and {high:.2f}; mean IoU of first "
        f"predictions between {np.nanmin(square[0]):.2f} and {np.nanmax(square[0]):.2f}."
    )
    figure = figures.agreement([METHODS[name] for name in names], square[0], square[1])
    return plots.show(figure, alt, source(chapter, "predictions"))


def pair_word(pair: dict[str, Any]) -> str:
    """Whether two methods' mAP are further apart than the choice of queries explains."""
    return NOISE if pair["low"] <= 0 <= pair["high"] else APART


@part("predictions")
def pair_table(chapter: Foundations) -> HTML:
    """Every pair of methods: who is right on the same queries, and the difference of mAP with its interval
    over queries.
    """
    rows = [
        {
            "pair (A − B)": " − ".join(METHODS[name] for name in pair["of"]),
            "both right (%)": 100 * pair["both"],
            "only A": 100 * pair["first"],
            "only B": 100 * pair["second"],
            "neither": 100 * pair["none"],
            "mAP, A − B": f"{pair['gap']:+.2f}",
            "95 % over queries": f"{pair['low']:+.2f} to {pair['high']:+.2f}",
            "word": pair_word(pair),
        }
        for pair in chapter.found["predictions"]["pairs"]
    ]
    return table(rows, digits=1, text=["word"])


@part("predictions")
def solved_figure(chapter: Foundations) -> HTML:
    """How many methods are right on a query."""
    found = chapter.found["predictions"]["solved"]
    share, chance = found["share"], found["chance"]
    all_of = len(share) - 1
    alt = (
        f"Bars of queries by the number of methods that are right: none on {percent(share[0])} (if independent "
        f"{percent(chance[0])}), all {all_of} on {percent(share[-1])} (if independent {percent(chance[-1])})."
    )
    caption = f"Right: the first prediction has IoU of {RIGHT} or more. {source(chapter, 'predictions')}"
    return plots.show(figures.solved(share, chance), alt, caption)


def explorer(chapter: Foundations) -> ipywidgets.VBox | HTML:
    """Choose a query; see every method's best windows and saliency against the ground truth. Works without a
    kernel.
    """
    from vtg_lib.book import widgets

    samples = chapter.timelines()
    if not samples:
        return paragraph("No queries to explore: neither the files nor the record were found.")
    return widgets.timeline_explorer(samples, width=figures.WIDTH)


# --------------------------------------------------------------------------------------------------------------- summary


def summary(chapter: Foundations) -> HTML:
    """The chapter in sentences, each computed."""
    lines = []
    quoted = [check.word for quote, check in checked(chapter) if RERUN not in quote.label]
    if quoted:
        exact = sum(word == printed.EQUAL for word in quoted)
        lines.append(
            f"{exact} of {len(quoted)} quoted rows of released predictions come out equal in every cell."
        )
    if chapter.found["logs"]:
        logs, epochs = chapter.found["logs"], released_epochs(chapter)
        picked = [name for name, epoch in epochs.items() if epoch is not None]
        best = sum(
            logs[name]["mAP"][logs[name]["epoch"].index(epochs[name])] == max(logs[name]["mAP"])
            for name in picked
        )
        lines.append(
            f"{best} of {len(picked)} released val predictions that a log knows are those of its best epoch: they are chosen "
            "on the split that they are reported on."
        )
    if chapter.found["predictions"]:
        found = chapter.found["predictions"]
        near = sum(pair_word(pair) == NOISE for pair in found["pairs"])
        half = [(pair["high"] - pair["low"]) / 2 for pair in found["pairs"]]
        lines.append(
            f"{near} of {len(found['pairs'])} pairs of methods are {NOISE}: the 95 % interval of a difference over the val "
            f"queries is ±{min(half):.2f} to ±{max(half):.2f} mAP, before any spread over seeds."
        )
        gains = [
            one["reordered"]["MR-full-mAP"] - chapter.scores[f"{name}_val"]["MR-full-mAP"]
            for name, one in found["methods"].items()
            if f"{name}_val" in chapter.scores
        ]
        if gains:
            lines.append(
                f"A perfect ranking of the same ten windows would add {min(gains):.1f} to {max(gains):.1f} mAP."
            )
        biases = [_bias(one["calibration"]["first"]) for one in found["methods"].values()]
        over = sum(bias > 0 for bias in biases)
        lines.append(
            f"{over} of {len(biases)} methods score their first prediction higher than its IoU, on average."
        )
        tiny = [one["length"]["any"][0] for one in found["methods"].values()]
        lines.append(
            f"Of the moments of at most {LENGTH_EDGES[1]:g} s, any of ten predictions meets {percent(min(tiny))} to "
            f"{percent(max(tiny))}."
        )
        share = found["solved"]["share"]
        lines.append(
            f"All methods are right on {percent(share[-1])} of the queries and none on {percent(share[0])}."
        )
    if chapter.found["evaluator"]:
        lines.append(
            f"HD mAP ends at {chapter.found['evaluator']['bounds']['perfect_hd']:.1f}, not at 100, for the annotators' own sum."
        )
    return items(lines)
