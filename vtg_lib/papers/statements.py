"""What a paper says about its own printed numbers, recomputed from them; nothing is trained.

A statement of a paper's YAML has a place, what it claims in short, what is printed for it, and one check:
`best`, `gains`, `same`, `spread`, `places`, `falls` (the classes below) or `test` (of the ranks). A check
tells what the printed cells say, and whether they bear the claim out as it is worded; a deviation in the last digit
counts as one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import StringConstraints

if TYPE_CHECKING:
    import pandas as pd

    from vtg_lib.evaluation.statistics import Friedman
    from vtg_lib.papers.schema import Paper, Table

Outcome = tuple[str, bool]  # what the cells say, and whether the claim holds
Cells = tuple[str, str]  # a row: (table, label)
Change = Annotated[str, StringConstraints(pattern=r"^(up|down|not up|[+-][0-9]+(\.[0-9]+)?)$")]
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Best:
    """In no metric but those of `but` is one of `others` (default: all other rows) above one of `rows`."""

    table: str
    rows: tuple[str, ...]
    others: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def told(self, paper: Paper) -> Outcome:
        table = paper.table(self.table)
        others = self.others or [label for label in _printed(table) if label not in self.rows]
        above = [
            (name, f"{name}: {other} {theirs:.2f} > {row} {ours:.2f}")
            for row in self.rows
            for other in others
            for name in self.columns or _metrics(table)
            if (theirs := _cell(table, other, name)) > (ours := _cell(table, row, name))
        ]
        text = "; ".join(text for _, text in above)
        return text or "better or equal in every column", {name for name, _ in above} == set(self.but)


@dataclass(frozen=True, kw_only=True)
class Gains:
    """How numbers change from the second row of each pair to the first.

    The claim holds if they do as `expect` says (a sign, or the printed change; one for all, or one for each
    pair and column in turn), or if at least `ahead` of them go up.
    """

    table: str
    pairs: tuple[Cells, ...]
    columns: tuple[str, ...] = ()
    expect: tuple[Change, ...] = ()
    ahead: int | None = None
    percent: bool = False

    def told(self, paper: Paper) -> Outcome:
        table = paper.table(self.table)
        texts, gains = [], []
        for row, base in self.pairs:
            found = {}
            for name in self.columns or _metrics(table):
                new, old = (_cell(table, label, name) for label in (row, base))
                gain = 100 * (new / old - 1) if self.percent else round(new - old, 2)
                if not math.isnan(gain):
                    found[name] = gain
            texts.append(f"{row} − {base}: {self._shown(table, found)}")
            gains += list(found.values())
        text = "; ".join(texts)
        if self.ahead is not None:
            return text, sum(gain > 0 for gain in gains) >= self.ahead
        expected = self.expect * len(gains) if len(self.expect) == 1 else self.expect
        return text, all(_changed(gain, word) for gain, word in zip(gains, expected, strict=True))

    def _shown(self, table: Table, gains: Mapping[str, float]) -> str:
        if self.ahead is None:
            form = "{} {:+.1f} %" if self.percent else "{} {:+.2f}"
            return ", ".join(form.format(name, gain) for name, gain in gains.items())
        splits: dict[str, list[float]] = {}
        for name, gain in gains.items():
            splits.setdefault(table.column(name).split or "", []).append(gain)
        return "; ".join(
            f"{split}: ahead in {sum(g > 0 for g in found)}, equal in {found.count(0)} of {len(found)}"
            for split, found in splits.items()
        )


@dataclass(frozen=True, kw_only=True)
class Same:
    """All of `rows` print the numbers of `row`, metric by metric; those in `beside` are told, not judged."""

    row: Cells
    rows: tuple[Cells, ...]
    beside: tuple[Cells, ...] = ()

    def told(self, paper: Paper) -> Outcome:
        expected = {key: value for key, (_, value) in _by_metric(paper, self.row).items()}
        texts, holds = [], True
        for cells in (*self.rows, *self.beside):
            shared = {key: cell for key, cell in _by_metric(paper, cells).items() if key in expected}
            off = [f"{name} {value:.2f}" for key, (name, value) in shared.items() if value != expected[key]]
            if off or cells in self.beside:
                equal = f"{len(shared) - len(off)} of {len(shared)} equal"
                but = f", not {', '.join(off)}" if 0 < len(off) < len(shared) else ""
                texts.append(f"{paper.table(cells[0]).title}, {cells[1]}: {equal}{but}")
            holds = holds and (not off or cells in self.beside)
        return "; ".join(texts) or "equal everywhere", holds


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A row that prints mean ± standard deviation (`also: sd`) of all other rows of its table.

    The deviation divides by n - `ddof`; the last digit is rounded, or `cut`.
    """

    table: str
    row: str
    ddof: Literal[0, 1]
    cut: bool = False

    def told(self, paper: Paper) -> Outcome:
        table = paper.table(self.table)
        row, off = table.row(self.row), []
        for name in _metrics(table):
            values = [_cell(table, label, name) for label in _printed(table) if label != self.row]
            exact = statistics.fmean(values), (statistics.stdev if self.ddof else statistics.pstdev)(values)
            mean, sd = (math.floor(x * 100 + 1e-6) / 100 if self.cut else round(x, 2) for x in exact)
            printed = _cell(table, self.row, name), row.also["sd"][name]
            if max(abs(mean - printed[0]), abs(sd - printed[1])) > 0.005:
                off.append(f"{name}: {mean:.2f} ± {sd:.2f} for {printed[0]:.2f} ± {printed[1]:.2f}")
        return "; ".join(off) or "equal in every column", not off


@dataclass(frozen=True, kw_only=True)
class Places:
    """Put for the row `instead_of` into its table, `row` takes its place in every metric."""

    row: Cells
    instead_of: Cells

    def told(self, paper: Paper) -> Outcome:
        table, moved = paper.table(self.instead_of[0]), []
        replaced = _by_metric(paper, self.instead_of)
        for key, (short, value) in _by_metric(paper, self.row).items():
            if key in replaced:
                name, own = replaced[key]
                others = [
                    _cell(table, label, name) for label in _printed(table) if label != self.instead_of[1]
                ]
                before, after = (1 + sum(other > v for other in others) for v in (own, value))
                if before != after:
                    moved.append(f"{short}: place {before} becomes {after}")
        return "; ".join(moved) or "every place stays", not moved


@dataclass(frozen=True, kw_only=True)
class Falls:
    """The mean of a column does not rise from one group of rows to the next."""

    table: str
    column: str
    groups: Mapping[str, tuple[str, ...]]

    def told(self, paper: Paper) -> Outcome:
        table = paper.table(self.table)
        means = {
            name: statistics.fmean(_cell(table, label, self.column) for label in labels)
            for name, labels in self.groups.items()
        }
        text = ", ".join(f"{name}: {mean:.2f}" for name, mean in means.items())
        return f"mean {self.column}, {text}", list(means.values()) == sorted(means.values(), reverse=True)


@dataclass(frozen=True, kw_only=True)
class RankTests:
    """Where a paper prints ranks of methods and what follows from them (Demsar, 2006).

    Attributes:
        ranks, p_values: tables of a rank by method and metric, and of p values of `row` against the others.
        scores: tables of the numbers that are ranked, the first that has a metric counts.
        names: what a method is called there, where it is another name.
    """

    ranks: str
    p_values: str
    row: str
    scores: tuple[str, ...]
    names: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement of the paper: where, what it claims in short, what is printed, and how to recompute it."""

    place: str
    claim: str
    printed: str = ""
    best: Best | None = None
    gains: Gains | None = None
    same: Same | None = None
    spread: Spread | None = None
    places: Places | None = None
    falls: Falls | None = None
    test: Literal["ranks", "blocks", "friedman", "nemenyi", "distances"] | None = None

    def __post_init__(self) -> None:
        names = "best", "gains", "same", "spread", "places", "falls", "test"
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(names)}; got {' and '.join(given) or 'none'}")

    def told(self, paper: Paper) -> Outcome:
        """What the printed cells say, and whether the claim holds.

        Raises:
            ValueError: it names a table, a row or a column that the paper does not have.
        """
        check = self.best or self.gains or self.same or self.spread or self.places or self.falls
        try:
            return check.told(paper) if check is not None else _tested(paper, self.test or "")
        except (KeyError, ValueError) as error:
            raise ValueError(f"{paper.key}, statement {self.claim!r}: {error.args[0]}") from error


def told(paper: Paper) -> pd.DataFrame:
    """The paper's statements about its own tables: place, claim, printed, recomputed, agrees."""
    import pandas as pd

    rows = [(s.place, s.claim, s.printed, *s.told(paper)) for s in paper.statements]
    return pd.DataFrame(rows, columns=["place", "claim", "printed", "recomputed", "agrees"])


def _changed(gain: float, word: str) -> bool:
    if word[0] in "+-":
        return f"{gain:+.{len(word.partition('.')[2])}f}" == word
    return {"up": gain > 0, "down": gain < 0, "not up": gain <= 0}[word]


def _printed(table: Table) -> list[str]:
    return [row.label for row in table.rows if not row.added]


def _metrics(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.metric not in (None, "parameters")]


def _cell(table: Table, label: str, column: str) -> float:
    value = table.row(label).paper[table.column(column).name]
    return math.nan if value is None else value


def _by_metric(paper: Paper, cells: Cells) -> dict[tuple[str | None, str | None, str], tuple[str, float]]:
    """The printed numbers of a row by data set, split and metric, with the names of their columns."""
    table = paper.table(cells[0])
    return {
        (column.dataset, column.split, column.metric): (column.name, value)
        for column in table.columns
        if column.metric is not None and (value := table.row(cells[1]).paper[column.name]) is not None
    }


# ------------------------------------------------------------------------------------------------------------
# ranks


def frame(table: Table) -> pd.DataFrame:
    """The printed numbers of a table: rows by label, columns by name, NaN where nothing is printed."""
    import pandas as pd

    data = {label: table.row(label).paper for label in _printed(table)}
    return pd.DataFrame.from_dict(data, orient="index", dtype=float)[[c.name for c in table.columns]]


def ranked_scores(paper: Paper) -> pd.DataFrame:
    """The numbers behind the paper's table of ranks: its methods by its metrics.

    Raises:
        ValueError: the paper has no `rank_tests`.
    """
    tests = _rank_tests(paper)
    scores = frame(paper.table(tests.ranks))
    sources = [paper.table(name) for name in tests.scores]
    for name in scores.columns:
        source = next(table for table in sources if name in [column.name for column in table.columns])
        labels = [row.label for row in source.rows]
        for method in scores.index:
            label = method if method in labels else tests.names.get(method, method)
            scores.loc[method, name] = _cell(source, label, name)
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
    scores, printed = ranked_scores(paper), frame(paper.table(_rank_tests(paper).ranks))
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
    ranks = frame(paper.table(tests.ranks))
    table = frame(paper.table(tests.p_values)).iloc[:, :1].set_axis(["printed p"], axis="columns")
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


def _tested(paper: Paper, word: str) -> Outcome:
    """What is said of the ranks, of Friedman's test and of Nemenyi's."""
    ranks = frame(paper.table(_rank_tests(paper).ranks))
    if word == "ranks":
        wrong = rank_check(paper)
        dense = int((wrong["printed rank"] == wrong["dense rank"]).sum())
        cells = int(ranks.notna().sum().sum())
        return (
            f"{len(wrong)} of {cells} cells differ, {dense} of them by a tie counted as one place",
            wrong.empty,
        )
    if word == "blocks":
        complete, columns = ranks.dropna(axis=1).shape[1], ranks.shape[1]
        return f"{complete} of {columns} columns rank all {len(ranks)} methods", complete == columns
    if word == "friedman":
        test = friedman_check(paper)
        text = f"chi² {test.statistic:.2f}, p {test.p:.1e}, {test.blocks} blocks, {test.methods} methods"
        return text, test.p > ALPHA
    table = nemenyi_check(paper)
    if word == "nemenyi":
        off = table[~table["agrees"]]
        text = "; ".join(f"{m}: p {p:.2f}" for m, p in zip(off["method"], off["recomputed p"], strict=True))
        return f"not different by our count: {text}" if text else "all decisions agree", off.empty
    near = table[(table["rank difference"].abs() < table["critical difference"]) & table["printed different"]]
    text = ", ".join(f"{m} {d:+.1f}" for m, d in zip(near["method"], near["rank difference"], strict=True))
    limit = table["critical difference"].iloc[0]
    return f"below the critical difference {limit:.2f}: {text or 'none'}", near.empty
