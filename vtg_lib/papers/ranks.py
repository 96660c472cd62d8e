"""Ranks of methods that a paper prints, and the tests of Friedman and Nemenyi (Demsar, 2006), recomputed from
the paper's own numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from vtg_lib.evaluation.statistics import Friedman
    from vtg_lib.papers.schema import Paper

Outcome = tuple[str, bool]  # what the printed cells say, and whether a claim holds
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class RankTests:
    """Where a paper prints ranks of methods and what follows from them.

    Attributes:
        ranks, p_values: tables of a rank by method and metric, and of p values of `row` against the others.
        scores: tables of the numbers that are ranked; the first that has a metric counts.
        names: what a method is called there, where it is another name.
    """

    ranks: str
    p_values: str
    row: str
    scores: tuple[str, ...]
    names: Mapping[str, str]


def ranked_scores(paper: Paper) -> pd.DataFrame:
    """The numbers behind the paper's table of ranks: its methods by its metrics.

    Raises:
        ValueError: the paper has no `rank_tests`.
    """
    tests = _rank_tests(paper)
    scores = paper.table(tests.ranks).printed()
    sources = [paper.table(name).printed() for name in tests.scores]
    for name in scores.columns:
        source = next(table for table in sources if name in table.columns)
        labels = [method if method in source.index else tests.names[method] for method in scores.index]
        scores[name] = source.loc[labels, name].to_numpy()
    return scores


def _rank_tests(paper: Paper) -> RankTests:
    if paper.rank_tests is None:
        raise ValueError(f"{paper.key}: expected field 'rank_tests' in its YAML, which is missing")
    return paper.rank_tests


def rank_check(paper: Paper) -> pd.DataFrame:
    """The printed ranks cell by cell, where they disagree with the scores: method, metric, score, printed and
    recomputed rank.

    Ties may be printed as the mean of their places (1.5), the best (1) or in either order: a printed rank
    between the best and the worst place of a tie agrees. "dense rank" counts a tie as one place; where the
    printed rank is that one, the convention differs (and does not suit the test), not the order.
    """
    scores, printed = ranked_scores(paper), paper.table(_rank_tests(paper).ranks).printed()
    table = printed.T.stack(future_stack=True).rename("printed rank").to_frame()
    for name, method in (
        ("recomputed rank", "average"),
        ("dense rank", "dense"),
        ("low", "min"),
        ("high", "max"),
    ):
        table[name] = scores.rank(ascending=False, method=method).T.stack(future_stack=True)
    table.insert(0, "score", scores.T.stack(future_stack=True))
    agrees = table["printed rank"].between(table["low"], table["high"])
    table = table[~(agrees | (table["printed rank"].isna() & table["score"].isna()))]
    table = table.rename_axis(["metric", "method"]).reset_index()
    return table[["method", "metric", "score", "printed rank", "recomputed rank", "dense rank"]]


def friedman_check(paper: Paper) -> Friedman:
    """Friedman's test on the complete blocks of the ranked scores."""
    from vtg_lib.evaluation.statistics import friedman

    return friedman(ranked_scores(paper))


def nemenyi_check(paper: Paper) -> pd.DataFrame:
    """The printed p values beside Nemenyi's, recomputed from the scores and from the printed ranks.

    The rank difference is the method's mean rank over the complete blocks minus ours (positive: ours is
    better); significance needs more than the critical difference.
    """
    from vtg_lib.evaluation import statistics as stats

    tests, scores, test = _rank_tests(paper), ranked_scores(paper), friedman_check(paper)
    ranks = paper.table(tests.ranks).printed()
    table = paper.table(tests.p_values).printed().iloc[:, :1].set_axis(["printed p"], axis="columns")
    table["recomputed p"] = stats.nemenyi(scores)[tests.row]
    table[f"p from {paper.table(tests.ranks).title}"] = stats.nemenyi(ranks, higher_is_better=False)[
        tests.row
    ]
    table["rank difference"] = [test.mean_ranks[m] - test.mean_ranks[tests.row] for m in table.index]
    table["critical difference"] = stats.critical_difference(test.methods, test.blocks)
    table["printed different"] = table["printed p"] < ALPHA
    table["recomputed different"] = table["recomputed p"] < ALPHA
    table["agrees"] = table["printed different"] == table["recomputed different"]
    return table.rename_axis("method").reset_index()


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Methods ranked over blocks (Demsar, 2006).

    Attributes:
        test: Friedman's; distance: the critical difference of mean ranks; p: Nemenyi's of `row` against each
            other method.
    """

    row: str
    test: Friedman
    distance: float
    p: Mapping[str, float]

    @property
    def apart(self) -> list[str]:
        """The methods that `row` differs from."""
        return [name for name, p in self.p.items() if p < ALPHA]


def ranked(scores: pd.DataFrame, row: str) -> Ranking:
    """Friedman's and Nemenyi's tests on scores, methods by blocks.

    Raises:
        ValueError: see `statistics.friedman`.
    """
    from vtg_lib.evaluation import statistics as stats

    test = stats.friedman(scores)
    p = stats.nemenyi(scores)[row].drop(row)
    limit = stats.critical_difference(test.methods, test.blocks, ALPHA)
    return Ranking(row=row, test=test, distance=limit, p={str(name): float(x) for name, x in p.items()})


def apart(paper: Paper, *, table: str, row: str, others: Sequence[str], columns: Sequence[str]) -> Outcome:
    """By Nemenyi's test over `columns` (Friedman's blocks), `row` differs from each of `others`."""
    known = paper.table(table)
    names = [known.column(name).name for name in columns]
    found = ranked(known.numbers().loc[[known.row(label).label for label in (row, *others)], names], row)
    test = found.test
    places = ", ".join(f"{name} {test.mean_ranks[name]:.1f}" for name in (row, *others))
    text = (
        f"Friedman chi² {test.statistic:.1f}, p {test.p:.2g}, {test.blocks} domains; mean ranks {places}; "
        f"critical difference {found.distance:.1f}; apart: {', '.join(found.apart) or 'none'}"
    )
    return text, test.p < ALPHA and sorted(found.apart) == sorted(others)


def follow(paper: Paper) -> Outcome:
    """The printed ranks are those of the scores."""
    wrong, cells = rank_check(paper), paper.table(_rank_tests(paper).ranks).printed().count().sum()
    dense = (wrong["printed rank"] == wrong["dense rank"]).sum()
    return f"{len(wrong)} of {cells} cells differ, {dense} of them by a tie counted as one place", wrong.empty


def blocks_are_complete(paper: Paper) -> Outcome:
    """Every metric ranks all methods."""
    ranks = paper.table(_rank_tests(paper).ranks).printed()
    complete = ranks.notna().all().sum()
    return (
        f"{complete} of {len(ranks.columns)} columns rank all {len(ranks)} methods",
        ranks.notna().all().all(),
    )


def friedman_is_above(paper: Paper) -> Outcome:
    """Friedman's p is above 0.05."""
    test = friedman_check(paper)
    text = f"chi² {test.statistic:.2f}, p {test.p:.1e}, {test.blocks} blocks, {test.methods} methods"
    return text, test.p > ALPHA


def nemenyi_decides(paper: Paper) -> Outcome:
    """Nemenyi's p values are on the printed side of 0.05."""
    off = nemenyi_check(paper).query("not agrees").set_index("method")["recomputed p"]
    text = "; ".join(f"{method}: p {p:.2f}" for method, p in off.items())
    return f"not different by our count: {text}" if text else "all decisions agree", off.empty


def distances_suffice(paper: Paper) -> Outcome:
    """Methods that are called different are further apart than the critical difference."""
    table = nemenyi_check(paper).set_index("method")
    limit, distance = table["critical difference"].iloc[0], table["rank difference"]
    near = distance[(distance.abs() < limit) & table["printed different"]]
    text = ", ".join(f"{method} {d:+.1f}" for method, d in near.items())
    return f"below the critical difference {limit:.2f}: {text or 'none'}", near.empty
