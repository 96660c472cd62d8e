"""Does the order that a paper prints hold among our runs? Every pair of a table's rows, judged by
`vtg_lib.papers.verdict`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers.evidence import RowResults, TableResults
from vtg_lib.papers.verdict import NOISE, ONE_SEED, REVERSED, SAME, Verdict, verdict

if TYPE_CHECKING:
    import pandas as pd

JUDGED = (SAME, NOISE, ONE_SEED, REVERSED)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A method in both orders; rank 1 is best.

    Attributes:
        label: of the row; printed: the paper's number; ours: mean, sd and number of seeds of the best kind of
            run.
        printed_rank, rank: among the methods that have both numbers.
    """

    label: str
    printed: float
    ours: stats.Summary
    printed_rank: int
    rank: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """The methods, best printed number first, and the verdict on every pair (better by the paper, worse by
    the paper).

    tau: Kendall's rank correlation of the printed numbers and our means; NaN for fewer than two methods.
    """

    column: str
    places: tuple[Place, ...]
    pairs: tuple[tuple[str, str, Verdict], ...]
    tau: float

    @property
    def words(self) -> Counter[str]:
        """How many pairs got each word."""
        return Counter(judged.word for _, _, judged in self.pairs)


def order(results: TableResults, column: str, kind: str) -> Order:
    """Both orders of the rows that have a printed number and runs of one `kind` ("sim", "rendered", ...) in
    `column`.

    Raises:
        KeyError: the table has no such column.
    """
    from scipy.stats import kendalltau

    results.table.column(column)
    rows = [row for row in results.rows if row.row.paper[column] is not None and kind in row.runs]
    chosen = sorted(rows, key=lambda row: _printed(row, column), reverse=True)
    ours = [row.runs[kind].summary(column) for row in chosen]
    ranking = sorted(range(len(ours)), key=lambda i: ours[i].mean, reverse=True)
    places = tuple(
        Place(
            label=row.row.label,
            printed=_printed(row, column),
            ours=mine,
            printed_rank=i + 1,
            rank=ranking.index(i) + 1,
        )
        for i, (row, mine) in enumerate(zip(chosen, ours, strict=True))
    )
    pairs = [(a.row.label, b.row.label, verdict(a, b, column)) for a, b in itertools.combinations(chosen, 2)]
    tau = math.nan
    if len(chosen) > 1:
        tau = float(
            kendalltau([place.printed for place in places], [place.ours.mean for place in places]).statistic
        )
    judged = tuple(pair for pair in pairs if pair[2].word in JUDGED and pair[2].evidence == kind)
    return Order(column=column, places=places, pairs=judged, tau=tau)


def _printed(row: RowResults, column: str) -> float:
    number = row.row.paper[column]
    assert number is not None
    return number


def frame(order: Order) -> pd.DataFrame:
    """The methods in the printed order, with both ranks."""
    import pandas as pd

    return pd.DataFrame(
        {
            "method": place.label,
            f"paper {order.column}": place.printed,
            "ours, mean": place.ours.mean,
            "sd": place.ours.sd,
            "seeds": place.ours.n,
            "rank in the paper": place.printed_rank,
            "rank here": place.rank,
        }
        for place in order.places
    )


def summary(order: Order) -> str:
    """What became of the printed order, in words that are computed."""
    if not order.pairs:
        return "Not run yet: no two methods have runs."
    words, total = order.words, len(order.pairs)
    parts = [f"{words[SAME]} of {total} pairs of methods stand as printed (95 % interval over paired seeds)"]
    parts += [
        f"{words[word]} {text}"
        for word, text in ((NOISE, "are within noise"), (ONE_SEED, "have one seed only"))
        if words[word]
    ]
    reversed_ = [
        f"{worse} above {better}" for better, worse, judged in order.pairs if judged.word == REVERSED
    ]
    parts.append(f"{len(reversed_)} are reversed" + (f" ({'; '.join(reversed_)})" if reversed_ else ""))
    return f"{'; '.join(parts)}. Kendall's τ of the two orders: {order.tau:.2f}."
