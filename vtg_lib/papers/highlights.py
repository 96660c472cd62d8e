"""What the protocols of TVSum and YouTube Highlights move: between two ways to score the same runs, and in
the labels themselves, without any run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.evaluation import statistics as stats
from vtg_lib.evaluation.highlights import GRID, Ties, highlight_map, label_times
from vtg_lib.evaluation.submission import SALIENCY

if TYPE_CHECKING:
    import pandas as pd

    from vtg_lib.papers.evidence import TableResults
    from vtg_lib.papers.ranks import Ranking

PREFIXES = {"TVSum": "tvsum", "YouTube": "youtube_highlights"}
# What is compared: columns of the table "protocols", after a data set's name.
DIFFERENCES = {
    "epoch best on the scored videos − last epoch": ("-best Avg.", " Avg."),
    "that epoch: scored videos − further videos": ("-best Avg.", "-unseen Avg."),
    "mean of videos − mean of domains": (" videos", " Avg."),
    "ties: all won − all lost": (" ties won", " ties lost"),
}
RELEASED, LEFT_OUT = "released split", "released split − leave one out"
SHUFFLES = 200  # random orders that chance is the mean of


def moves(protocols: TableResults, folds: TableResults) -> pd.DataFrame:
    """What each difference of protocol moves, in points: mean and largest over rows and seeds, and how many
    there are; beside it the sd over seeds of the same rows' average (root mean square), which a difference of
    methods has to be told from.

    Args:
        protocols: a table with the columns of `DIFFERENCES`; folds: rows that leave out each video in turn,
            the last of which, `RELEASED`, is the released split.
    """
    import pandas as pd

    lines = []
    for name in PREFIXES:
        spread = [_values(row, f"{name} Avg.") for row in protocols.rows]
        sd = _pooled([list(seeds.values()) for seeds in spread])
        for told, (first, second) in DIFFERENCES.items():
            gaps = [
                one[seed] - other[seed]
                for row in protocols.rows
                for one, other in [(_values(row, name + first), _values(row, name + second))]
                for seed in sorted(one.keys() & other.keys())
            ]
            lines.append((name, told, *_told(gaps), sd))
    every = {row.row.label: _values(row, "TVSum Avg.") for row in folds.rows}
    whole = sorted(set.intersection(*(set(seeds) for seeds in every.values()))) if every else []
    gaps = [
        every[RELEASED][seed] - float(np.mean([seeds[seed] for seeds in every.values()])) for seed in whole
    ]
    sd = _pooled([list(every[RELEASED].values())])
    lines.append(("TVSum", LEFT_OUT, *_told(gaps), sd))
    names = ["data set", "difference", "mean", "largest", "n", "sd of the average over seeds"]
    return pd.DataFrame(lines, columns=names)


def _values(row: Any, column: str) -> Mapping[int, float]:
    """Numbers of a row's best kind of run in a column, by seed."""
    found = row.best_run.values.get(column, {}) if row.best_run is not None else {}
    return dict(found)


def _told(gaps: Sequence[float]) -> tuple[float, float, int]:
    if not gaps:
        return math.nan, math.nan, 0
    return float(np.mean(gaps)), float(max(gaps, key=abs)), len(gaps)


def _pooled(groups: Sequence[Sequence[float]]) -> float:
    variances = [stats.summarise(group).sd ** 2 for group in groups if len(group) > 1]
    return math.sqrt(sum(variances) / len(variances)) if variances else math.nan


def domain_ranks(
    results: TableResults, row: str, without: Sequence[str] = ()
) -> tuple[Ranking | None, Ranking | None]:
    """`row` among the rows of a table over its domains (Friedman, Nemenyi): from the printed numbers, and
    from our means over seeds; None where fewer than three rows have numbers in every domain.

    Args:
        without: rows whose printed numbers are left out.
    """
    import pandas as pd

    from vtg_lib.papers.ranks import ranked

    average = results.table.primary
    domains = [column.name for column in results.table.columns if column.name != average]
    printed = results.table.numbers()[domains].drop(index=list(without)).dropna()
    runs = {r.row.label: r.best_run for r in results.rows if r.best_run is not None}
    means = {label: [run.summary(name).mean for name in domains] for label, run in runs.items()}
    ours = pd.DataFrame(means, index=domains).T.dropna()
    first, second = (
        ranked(scores, row) if len(scores) > 2 and row in scores.index else None for scores in (printed, ours)
    )
    return first, second


def label_bounds(root: str | os.PathLike[str] | None = None, seed: int = 0) -> pd.DataFrame:
    """What rankings that come from the released test labels themselves score: data set, ranking, mean of
    domains with ties lost and won.

    TVSum: the mean of all votes, and of all votes but the one that judges, which no method can be asked to
    exceed by more than luck; random orders. YouTube Highlights: the labels as a function of time on clips of
    `GRID` seconds, read at each labelled clip's time, and by number as the public code reads features (scores
    that are lacking are the lowest); random orders.

    Raises:
        FileNotFoundError: the annotations are missing; says how to get them.
    """
    import pandas as pd

    from vtg_lib.data import real_rows

    rng, lines = np.random.default_rng(seed), []
    tvsum, youtube = (real_rows(name, root)["val"] for name in PREFIXES.values())
    votes = {row["qid"]: np.asarray(row["label"], float) for row in tvsum}
    lines.append(("TVSum", "mean of all votes", *_both({q: v.mean(1) for q, v in votes.items()}, tvsum, 5)))
    one_out = [
        _both(
            {q: np.delete(v, judge, axis=1).mean(1) for q, v in votes.items()},
            [{**row, "label": [[clip[judge], clip[judge]] for clip in row["label"]]} for row in tvsum],
            5,
        )
        for judge in range(len(tvsum[0]["label"][0]))
    ]
    lines.append(("TVSum", "mean of the other votes", *np.mean(one_out, axis=0).round(2).tolist()))
    lines.append(("TVSum", "random order", *_chance(tvsum, 5, rng)))
    grids = {row["qid"]: _on_grid(row) for row in youtube}
    lines.append(("YouTube", f"labels on {GRID:g} s, by time", *_both(grids, youtube, None, GRID)))
    by_number = {
        row["qid"]: np.pad(grid := grids[row["qid"]], (0, max(0, len(row["label"]) - len(grid))))
        for row in youtube
    }
    lines.append(("YouTube", f"labels on {GRID:g} s, by number", *_both(by_number, youtube, None)))
    lines.append(("YouTube", "random order", *_chance(youtube, None, rng)))
    return pd.DataFrame(lines, columns=["data set", "clips ranked by", "ties lost", "ties won"])


def _on_grid(row: Mapping[str, Any]) -> np.ndarray:
    """A video's labels at the middles of clips of `GRID` seconds: those of the nearest labelled clip."""
    labels = np.asarray(row["label"], float)[:, 0]
    middles = label_times(row, len(labels))
    clips = math.floor(middles.max() / GRID) + 1
    seconds = (np.arange(clips) + 0.5) * GRID
    return labels[np.abs(middles[None] - seconds[:, None]).argmin(1)]


def _both(
    scores: Mapping[Any, np.ndarray],
    rows: Sequence[Mapping[str, Any]],
    top_k: int | None,
    clip_length: float | None = None,
) -> tuple[float, float]:
    """Mean of domains with all ties lost, and all won."""
    given = [{"qid": qid, SALIENCY: values.tolist()} for qid, values in scores.items()]
    found = []
    orders: tuple[Ties, ...] = ("lost", "won")
    for ties in orders:
        domains = highlight_map(given, rows, top_k=top_k, ties=ties, clip_length=clip_length)["domains"]
        assert isinstance(domains, dict)
        found.append(round(sum(domains.values()) / len(domains), 2))
    return found[0], found[1]


def _chance(
    rows: Sequence[Mapping[str, Any]], top_k: int | None, rng: np.random.Generator
) -> tuple[float, float]:
    orders = [
        _both({row["qid"]: rng.random(len(row["label"])) for row in rows}, rows, top_k)
        for _ in range(SHUFFLES // (10 if top_k is None else 4))
    ]
    low, high = np.mean(orders, axis=0).round(2).tolist()
    return low, high
