"""Views on released predictions: calibration, recall, agreement, the explorer, and the chapter in sentences.

Two methods are "apart" when the 95 % interval
of their difference over queries excludes 0, else "within the noise of queries".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book import widgets
from vtg_lib.book.foundations import figures
from vtg_lib.book.foundations.authors import MAP, checked, released_epochs
from vtg_lib.book.foundations.chapter import Foundations, page, part, percent
from vtg_lib.book.foundations.data import timelines
from vtg_lib.book.tables import table
from vtg_lib.evaluation.per_query import COUNTS, LENGTH_EDGES, METHODS, RIGHT
from vtg_lib.papers import quotes

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import HTML

APART, NOISE = "apart", "within the noise of queries"


# --- calibration, recall, agreement


@part("predictions")
def calibration_figure(chapter: Foundations) -> HTML:
    """Reliability curves."""
    methods = {name: found["calibration"] for name, found in chapter.found["predictions"]["methods"].items()}
    told = "; ".join(
        f"{METHODS[name]}: expected calibration error {c['first']['ece']:.2f}" for name, c in methods.items()
    )
    alt = (
        "Reliability curves, mean IoU by score, of the first and of all ten predictions. First predictions: "
    )
    caption = f"Bins with fewer than {figures.FEWEST} predictions are left out. Dashed: score equals IoU."
    return plots.show(
        figures.reliability(methods), f"{alt}{told}.", f"{caption} {chapter.source('predictions')}"
    )


@part("predictions")
def calibration_table(chapter: Foundations) -> HTML:
    """Calibration errors, rank correlations, and what a perfect ranking of the same windows would reach."""
    rows = [
        {
            "method": METHODS[name],
            "first prediction: score − IoU, mean": f"{_bias(c['first']):+.2f}",
            "first prediction: ECE": c["first"]["ece"],
            f"first prediction: ECE against “IoU ≥ {RIGHT}”": c["ece_right"],
            "all ten: ECE": c["all"]["ece"],
            "rank correlation of score and IoU, first predictions of all queries": c["rank_first"],
            "rank correlation of score and IoU, within a query": c["rank_within"],
            "mAP": score.get(MAP),
            "mAP, perfectly ranked": perfect[MAP],
            "R1@0.5": score.get("MR-full-R1@0.5"),
            "R1@0.5, perfectly ranked": perfect["MR-full-R1@0.5"],
        }
        for name, c, perfect, score in (
            (name, found["calibration"], found["reordered"], chapter.scores.get(f"{name}_val", {}))
            for name, found in chapter.found["predictions"]["methods"].items()
        )
    ]
    return table(rows, across=True)


def _bias(curve: dict[str, Any]) -> float:
    """Mean score less mean outcome over all predictions of a reliability curve."""
    count, score, outcome = (np.array(curve[name], dtype=float) for name in ("count", "score", "outcome"))
    return float(np.nansum(count * (score - outcome)) / count.sum())


def _or_more(k: int) -> str:
    return f"{k}+" if k == COUNTS[-1] else str(k)


@part("predictions")
def recall_figure(chapter: Foundations) -> HTML:
    """Recall by length of the moment and by moments of the query."""
    methods = chapter.found["predictions"]["methods"]
    told = "; ".join(
        f"{METHODS[name]} meets {percent(found['length']['any'][0])} of the moments up to {LENGTH_EDGES[1]:g}"
        f" s and {percent(found['length']['any'][4])} of those of {LENGTH_EDGES[4]:g} to {LENGTH_EDGES[5]:g}"
        " s with any of ten"
        for name, found in methods.items()
    )
    numbers = next(iter(methods.values()))["count"]["n"]
    counts = ", ".join(f"{number} of {_or_more(k)}" for k, number in zip(COUNTS, numbers, strict=True))
    caption = f"Met: IoU of {RIGHT} or more. Queries by moments: {counts}. {chapter.source('predictions')}"
    alt = f"Recall by length of the moment and by moments of the query. {told}."
    return plots.show(figures.recall(methods), alt, caption)


@part("predictions")
def repeats_table(chapter: Foundations) -> HTML:
    """Queries with several moments: of the first k predictions, how many meet a moment that one before them
    met already.
    """
    rows = [
        {"method": METHODS[name]}
        | {
            f"k = {_or_more(k)} (%)": 100 * value
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
    iou, rank = square = np.full((2, len(names), len(names)), np.nan)
    for pair in chapter.found["predictions"]["pairs"]:
        i, j = map(names.index, pair["of"])
        square[:, i, j] = square[:, j, i] = pair["iou"], pair["rank"]
    alt = (
        f"Square of five methods. Rank correlations of AP over queries lie between {np.nanmin(rank):.2f} and "
        f"{np.nanmax(rank):.2f}; mean IoU of first predictions between {np.nanmin(iou):.2f} and "
        f"{np.nanmax(iou):.2f}."
    )
    return plots.show(
        figures.agreement(list(METHODS.values()), iou, rank), alt, chapter.source("predictions")
    )


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
    share, chance = (chapter.found["predictions"]["solved"][name] for name in ("share", "chance"))
    alt = (
        f"Bars of queries by the number of methods that are right: none on {percent(share[0])} (if"
        f" independent {percent(chance[0])}), all {len(share) - 1} on {percent(share[-1])} (if independent"
        f" {percent(chance[-1])})."
    )
    caption = f"Right: the first prediction has IoU of {RIGHT} or more. {chapter.source('predictions')}"
    return plots.show(figures.solved(share, chance), alt, caption)


def explorer(chapter: Foundations) -> ipywidgets.VBox | HTML:
    """Choose a query; see every method's best windows and saliency against the ground truth. Works without a
    kernel.
    """
    if samples := timelines(chapter):
        return widgets.timeline_explorer(samples, width=figures.WIDTH)
    return page("No queries to explore: neither the files nor the record were found.")


# --- summary


def summary(chapter: Foundations) -> HTML:
    """The chapter in sentences, each computed."""
    lines, logs, found = [], chapter.found["logs"], chapter.found["predictions"]
    if quoted := [check.word == quotes.EQUAL for _, check in checked(chapter, rerun=False)]:
        rows = "quoted rows of released predictions come out equal in every cell"
        lines.append(f"{sum(quoted)} of {len(quoted)} {rows}.")
    if logs:
        curves = {name: dict(zip(log["epoch"], log["mAP"], strict=True)) for name, log in logs.items()}
        picked = {name: epoch for name, epoch in released_epochs(chapter).items() if epoch is not None}
        best = sum(curves[name][epoch] == max(curves[name].values()) for name, epoch in picked.items())
        lines.append(
            f"{best} of {len(picked)} released val predictions that a log knows are those of its best epoch:"
            " they are chosen on the split that they are reported on."
        )
    if found:
        methods, share = found["methods"], found["solved"]["share"]
        near = sum(pair_word(pair) == NOISE for pair in found["pairs"])
        half = [(pair["high"] - pair["low"]) / 2 for pair in found["pairs"]]
        gains = [
            one["reordered"][MAP] - chapter.scores[f"{name}_val"][MAP]
            for name, one in methods.items()
            if f"{name}_val" in chapter.scores
        ]
        over = sum(_bias(one["calibration"]["first"]) > 0 for one in methods.values())
        tiny = [one["length"]["any"][0] for one in methods.values()]
        lines += [
            (
                f"{near} of {len(half)} pairs of methods are {NOISE}: the 95 % interval of a difference over"
                f" the val queries is ±{min(half):.2f} to ±{max(half):.2f} mAP, before any spread over seeds."
            ),
            *(
                f"A perfect ranking of the same ten windows would add {low:.1f} to {high:.1f} mAP."
                for low, high in ([(min(gains), max(gains))] if gains else [])
            ),
            f"{over} of {len(methods)} methods score their first prediction higher than its IoU, on average.",
            (
                f"Of the moments of at most {LENGTH_EDGES[1]:g} s, any of ten predictions meets"
                f" {percent(min(tiny))} to {percent(max(tiny))}."
            ),
            f"All methods are right on {percent(share[-1])} of the queries and none on {percent(share[0])}.",
        ]
    if chapter.found["evaluator"]:
        perfect = chapter.found["evaluator"]["bounds"]["perfect_hd"]
        lines.append(f"HD mAP ends at {perfect:.1f}, not at 100, for the annotators' own sum.")
    return page(lines)
