"""What a paper says about its own printed numbers, recomputed from them; nothing is trained.

A statement of a paper's YAML has a place, what it claims in short, what is printed for it, and a check: a
word of `CHECKS` with what it asks for. A check tells what the printed cells say, and whether they bear the
claim out as it is worded; a deviation in the last digit counts as one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.data.forms import unknown
from vtg_lib.papers import ranks

if TYPE_CHECKING:
    import pandas as pd

    from vtg_lib.papers.schema import Paper

Outcome = ranks.Outcome


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement of the paper: where, what it claims in short, what is printed, and how to recompute it."""

    place: str
    claim: str
    check: Mapping[str, Mapping[str, Any]]
    printed: str = ""

    def __post_init__(self) -> None:
        if len(self.check) != 1:
            raise ValueError(
                f"field 'check': expected one of {', '.join(CHECKS)}; got {len(self.check)} of them"
            )
        ((word, given),) = self.check.items()
        if word not in CHECKS:
            raise ValueError(f"field 'check': {unknown(word, CHECKS)}")
        try:
            inspect.signature(CHECKS[word]).bind(None, **given)
        except TypeError as error:
            raise ValueError(f"field 'check', {word}: {error}") from None

    def told(self, paper: Paper) -> Outcome:
        """What the printed cells say, and whether the claim holds.

        Raises:
            ValueError: it names a table, a row or a column that the paper does not have.
        """
        ((word, given),) = self.check.items()
        try:
            text, holds = CHECKS[word](paper, **given)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{paper.key}, statement {self.claim!r}: {error.args[0]}") from error
        return text, bool(holds)


def told(paper: Paper) -> pd.DataFrame:
    """The paper's statements about its own tables: place, claim, printed, recomputed, agrees."""
    import pandas as pd

    rows = [(s.place, s.claim, s.printed, *s.told(paper)) for s in paper.statements]
    return pd.DataFrame(rows, columns=["place", "claim", "printed", "recomputed", "agrees"])


def _frame(paper: Paper, table: str, columns: Sequence[str] = (), rows: Iterable[str] = ()) -> pd.DataFrame:
    """`frame` of some columns (default: the metrics), for rows that must be there."""
    known = paper.table(table)
    names = [c.name for c in known.columns if c.metric not in (None, "parameters")]
    names = [known.column(name).name for name in columns or names]
    for label in rows:
        known.row(label)  # which says what rows there are, if this is none
    return known.printed()[names]


def _row(paper: Paper, table: str, label: str) -> pd.Series[float]:
    """The printed numbers of a row by the names of their columns; "val mAP" is "mAP" for short."""
    numbers = paper.table(table).printed().loc[paper.table(table).row(label).label].dropna()
    return numbers.rename(lambda name: name.removeprefix("val "))


# --- checks


def best(
    paper: Paper,
    *,
    table: str,
    rows: Sequence[str],
    others: Sequence[str] = (),
    columns: Sequence[str] = (),
    but: Sequence[str] = (),
) -> Outcome:
    """In no column but those of `but` is one of `others` (default: all other rows) above one of `rows`."""
    f = _frame(paper, table, columns, [*rows, *others])
    above = [
        (name, f"{name}: {other} {f.loc[other, name]:.2f} > {row} {f.loc[row, name]:.2f}")
        for row in rows
        for other in others or f.index.drop(rows)
        for name in f.columns
        if f.loc[other, name] > f.loc[row, name]
    ]
    text = "; ".join(text for _, text in above)
    return text or "better or equal in every column", {name for name, _ in above} == set(but)


def gains(
    paper: Paper,
    *,
    table: str,
    pairs: Sequence[tuple[str, str]],
    columns: Sequence[str] = (),
    expect: Sequence[str] = (),
    percent: bool = False,
) -> Outcome:
    """From the second row of each pair to the first, numbers go "up", "down" or "not up", or by what is
    printed ("+0.74"), as `expect` says: once for all, or for each pair and column in turn.
    """
    f = _frame(paper, table, columns, chain(*pairs))
    texts, found = [], []
    for row, base in pairs:
        change = (
            (100 * (f.loc[row] / f.loc[base] - 1) if percent else f.loc[row] - f.loc[base]).dropna().round(2)
        )
        cells = (
            f"{name} {gain:+.1f} %" if percent else f"{name} {gain:+.2f}" for name, gain in change.items()
        )
        texts.append(f"{row} − {base}: {', '.join(cells)}")
        found += change.tolist()
    expected = [*expect] * (len(found) if len(expect) == 1 else 1)
    return "; ".join(texts), all(map(_changed, found, expected)) and len(found) == len(expected)


def _changed(gain: float, word: str) -> bool:
    if word[0] in "+-":
        return f"{gain:+.{len(word.partition('.')[2])}f}" == word
    return {"up": gain > 0, "down": gain < 0, "not up": gain <= 0}[word]


def ahead(paper: Paper, *, table: str, row: str, other: str, columns: int) -> Outcome:
    """`row` is above `other` in at least so many columns."""
    f = _frame(paper, table, (), [row, other])
    gain = (f.loc[row] - f.loc[other]).dropna()
    split = gain.groupby(lambda name: paper.table(table).column(name).split, sort=False)
    texts = (f"{name}: ahead in {(g > 0).sum()}, equal in {(g == 0).sum()} of {len(g)}" for name, g in split)
    return "; ".join(texts), (gain > 0).sum() >= columns


def chance(
    paper: Paper, *, spread: tuple[str, str, str], pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]
) -> Outcome:
    """The number of each pair's first row is above that of its second by more than two runs differ by chance.

    Args:
        spread: table, row and column that print a standard deviation between runs (`also: sd`), s. 95 % of
            the differences of two runs are within 1.96 sqrt(2) s.
        pairs: of (table, label); both rows print the column.
    """
    table, label, column = spread
    sd = paper.table(table).row(label).also["sd"][paper.table(table).column(column).name]
    limit = round(1.96 * math.sqrt(2) * sd, 2)
    gaps = {
        f"{row[1]} − {base[1]}": round(float(_row(paper, *row)[column] - _row(paper, *base)[column]), 2)
        for row, base in pairs
    }
    beyond, within = (
        ", ".join(f"{name} {gap:+.2f}" for name, gap in gaps.items() if (gap > limit) is above) or "none"
        for above in (True, False)
    )
    return f"limit {limit:.2f}; above: {beyond}; not above: {within}", min(gaps.values()) > limit


def within(paper: Paper, *, table: str, row: str, of: tuple[str, str], column: str) -> Outcome:
    """The number of the row `of` lies within 1.96 deviations (`also: sd`) of that of `row`."""
    name = paper.table(table).column(column).name
    sd = paper.table(table).row(row).also["sd"][name]
    away = float(_row(paper, *of)[column] - _row(paper, table, row)[column]) / sd
    return f"{away:+.1f} deviations", abs(away) <= 1.96


def welch(paper: Paper, *, table: str, row: str, other: str, runs: int) -> Outcome:
    """`row` is above `other` in every column by Welch's t at 5 %, from mean and deviation (`also: sd`) of
    `runs` runs each.
    """
    from scipy.stats import ttest_ind_from_stats

    f = _frame(paper, table, (), [row, other])
    sds = [paper.table(table).row(label).also["sd"] for label in (row, other)]
    found = {
        name: ttest_ind_from_stats(
            *(f.loc[row, name], sds[0][name], runs, f.loc[other, name], sds[1][name], runs), equal_var=False
        )
        for name in f.columns
    }
    text = "; ".join(f"{name}: t {t.statistic:.1f}, p {t.pvalue:.2g}" for name, t in found.items())
    return text, all(t.statistic > 0 and t.pvalue < 0.05 for t in found.values())


def same(
    paper: Paper,
    *,
    row: tuple[str, str],
    rows: Sequence[tuple[str, str]],
    beside: Sequence[tuple[str, str]] = (),
) -> Outcome:
    """All of `rows` (table, label) print the numbers of `row`; those in `beside` are told, not judged."""
    expected, texts, holds = _row(paper, *row), [], True
    for table, label in (*rows, *beside):
        shared = _row(paper, table, label).filter(expected.index)
        off = shared[shared != expected[shared.index]]
        judged = (table, label) not in map(tuple, beside)
        if len(off) or not judged:
            cells = ", ".join(f"{name} {value:.2f}" for name, value in off.items())
            but = f", not {cells}" if 0 < len(off) < len(shared) else ""
            equal = len(shared) - len(off)
            texts.append(f"{paper.table(table).title}, {label}: {equal} of {len(shared)} equal{but}")
        holds = holds and (off.empty or not judged)
    return "; ".join(texts) or "equal everywhere", holds


def spread(paper: Paper, *, table: str, row: str, ddof: int, cut: bool = False) -> Outcome:
    """`row` prints mean ± standard deviation (`also: sd`) of all other rows of its table.

    The deviation divides by n - `ddof`; the last digit is rounded, or `cut`.
    """
    f = _frame(paper, table, (), [row])
    printed, printed_sd = f.loc[row], paper.table(table).row(row).also["sd"]
    exact = f.drop(index=row).agg(["mean", lambda values: values.std(ddof=ddof)])
    mean, sd = (np.floor(exact * 100 + 1e-6) / 100 if cut else exact.round(2)).to_numpy()
    off = [
        f"{name}: {m:.2f} ± {s:.2f} for {printed[name]:.2f} ± {printed_sd[name]:.2f}"
        for name, m, s in zip(f.columns, mean, sd, strict=True)
        if abs(m - printed[name]) > 0.005 or abs(s - printed_sd[name]) > 0.005
    ]
    return "; ".join(off) or "equal in every column", not off


def places(paper: Paper, *, row: tuple[str, str], instead_of: tuple[str, str]) -> Outcome:
    """Put for the row `instead_of` into its table, `row` takes its place in every column."""
    own, moved = _row(paper, *instead_of), []
    others = paper.table(instead_of[0]).printed().rename(columns=lambda name: name.removeprefix("val "))
    for name, value in _row(paper, *row).filter(own.index).items():
        column = others[name].drop(index=instead_of[1])
        before, after = (1 + int((column > v).sum()) for v in (own[name], value))
        if before != after:
            moved.append(f"{name}: place {before} becomes {after}")
    return "; ".join(moved) or "every place stays", not moved


def falls(paper: Paper, *, table: str, column: str, groups: Mapping[str, Sequence[str]]) -> Outcome:
    """The mean of a column does not rise from one group of rows to the next."""
    f = _frame(paper, table, [column], chain(*groups.values()))[column]
    means = [f[labels].mean() for labels in groups.values()]
    text = ", ".join(f"{name}: {mean:.2f}" for name, mean in zip(groups, means, strict=True))
    return f"mean {column}, {text}", means == sorted(means, reverse=True)


def averages(paper: Paper, *, table: str, column: str, of: Sequence[str], but: Sequence[str] = ()) -> Outcome:
    """In every row but those of `but` the printed `column` is the mean of the printed cells `of`, as near as
    rounding lets it: half of the last digit in the cells, and as much in the mean. Rows of ours with numbers
    (printed cells put right, say) are told with the others.
    """
    known = paper.table(table)
    f = known.numbers()[[known.column(name).name for name in (*of, column)]].dropna()
    exact, printed = f[list(of)].mean(axis=1), f[column]
    gaps = (exact - printed).abs()
    off = [known.row(label).label for label in gaps.index[gaps > 0.1 + 1e-6]]
    texts = [f"{label}: mean {exact[label]:.2f}, printed {printed[label]:.1f}" for label in off]
    rest = f"{'the others' if off else 'all'} within {gaps.drop(off).max():.2f}"
    return "; ".join([*texts, rest]), set(off) == set(but)


CHECKS: dict[str, Callable[..., Outcome]] = {
    "best": best,
    "gains": gains,
    "ahead": ahead,
    "same": same,
    "spread": spread,
    "chance": chance,
    "within": within,
    "welch": welch,
    "places": places,
    "falls": falls,
    "averages": averages,
    "apart": ranks.apart,
    "ranks": ranks.follow,
    "blocks": ranks.blocks_are_complete,
    "friedman": ranks.friedman_is_above,
    "nemenyi": ranks.nemenyi_decides,
    "distances": ranks.distances_suffice,
}
