"""What papers print for methods with released predictions, held against our evaluator's numbers and against
each other.

Every QVHighlights row of the papers' main comparisons is a `Quote`. Words are computed from the numbers, at
the precision in which a row is printed: "equal" (every cell), "last digit" (none off by more than one unit of
it), "one cell differs", "differs"; for a row with a spread over seeds, "within one sd" or "beyond one sd", by
its furthest cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from vtg_lib.papers import Paper, Row, Table, load_paper, paper_keys

EQUAL, LAST_DIGIT, ONE_CELL, DIFFERS = "equal", "last digit", "one cell differs", "differs"
WITHIN_SD, BEYOND_SD = "within one sd", "beyond one sd"
# Names of a method in the papers' tables -> its name here.
ALIASES = {"M-DETR": "Moment-DETR", "MDETR": "Moment-DETR", "Flash-VTG": "FlashVTG"}
OURS = "Ours"


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A row as one paper prints it for one split.

    Attributes:
        paper, place: "SA-DETR", "Tab. 1"; label: the row's; method: the label without marks, by one name in
            all papers.
        split: val or test; file: the released predictions to hold it against, or None.
        numbers, sd: by key of the evaluator's "brief" result; decimals: to which they are printed.
    """

    paper: str
    place: str
    label: str
    method: str
    split: str
    file: str | None
    numbers: Mapping[str, float]
    sd: Mapping[str, float] = field(default_factory=dict)
    decimals: int = 2


@dataclass(frozen=True, kw_only=True)
class Check:
    """A quote against our numbers: the word, equal cells of all, and the cell that is furthest off (ours less
    printed).
    """

    word: str
    equal: int
    cells: int
    furthest: str
    gap: float


def quotes(papers: Iterable[Paper] | None = None) -> list[Quote]:
    """The rows of every table that has a row with released predictions, in all papers' YAML or in `papers`.

    A paper without a method of its own collects tables of others ("tab1 of SA-DETR"); those of a paper that
    has such tables in a YAML of its own are read from there.
    """
    loaded = [load_paper(key) for key in paper_keys()] if papers is None else list(papers)
    own = {paper.method for paper in loaded if any(_compares(table) for table in paper.tables)} - {None}
    found = []
    for paper in loaded:
        for table in paper.tables:
            place, _, name = table.title.partition(" of ")
            if name in own if paper.method is None else not _compares(table):
                continue
            found += [
                quote for row in table.rows for quote in _of_row(paper.method or name, place, table, row)
            ]
    return found


def _compares(table: Table) -> bool:
    return any(row.source == "released" and not row.added for row in table.rows)


def _of_row(paper: str, place: str, table: Table, row: Row) -> list[Quote]:
    found = []
    for split in ("val", "test"):
        columns = {
            column.metric: column.name
            for column in table.columns
            if column.dataset == "qvhighlights" and column.split == split and column.metric is not None
        }
        numbers = {key: value for key, name in columns.items() if (value := row.paper[name]) is not None}
        if numbers and not row.added:
            spread = row.also.get("sd", {})
            found.append(
                Quote(
                    paper=paper,
                    place=place,
                    label=row.label,
                    method=method_name(row.label, paper),
                    split=split,
                    file=row.released.get(split),
                    numbers=numbers,
                    sd={key: spread[name] for key, name in columns.items() if name in spread},
                    decimals=max(_decimals(value) for value in numbers.values()),
                )
            )
    return found


def method_name(label: str, paper: str) -> str:
    """A row's method by one name in all papers; "Ours" is the paper's own."""
    name = label.rstrip("†*")
    return paper if name == OURS else ALIASES.get(name, name)


def _decimals(value: float) -> int:
    return len(f"{value:.6f}".rstrip("0").partition(".")[2])


def check(quote: Quote, brief: Mapping[str, float]) -> Check | None:
    """A quote against the evaluator's "brief" numbers of its predictions; None where they share no number."""
    gaps = {key: brief[key] - value for key, value in quote.numbers.items() if key in brief}
    if not gaps:
        return None
    unit = 10.0**-quote.decimals
    equal = sum(abs(gap) <= unit / 2 + 1e-9 for gap in gaps.values())
    distance = {key: abs(gap) / quote.sd[key] if quote.sd.get(key) else abs(gap) for key, gap in gaps.items()}
    furthest = max(distance, key=lambda key: distance[key])
    if quote.sd:
        word = WITHIN_SD if distance[furthest] <= 1 else BEYOND_SD
    elif equal == len(gaps):
        word = EQUAL
    elif max(map(abs, gaps.values())) <= 1.5 * unit - 1e-9:
        word = LAST_DIGIT
    else:
        word = ONE_CELL if equal == len(gaps) - 1 else DIFFERS
    return Check(word=word, equal=equal, cells=len(gaps), furthest=furthest, gap=gaps[furthest])


def disagreements(found: Iterable[Quote]) -> list[tuple[str, str, str, dict[str, float]]]:
    """Cells that papers print differently for one method and split: (method, split, metric, {paper: number}).

    A number agrees with those that round to it at its own decimals (trailing zeros do not count, in favour of
    agreement).
    """
    groups: dict[tuple[str, str], list[Quote]] = {}
    for quote in found:
        groups.setdefault((quote.method, quote.split), []).append(quote)
    rows = []
    for (method, split), members in groups.items():
        for metric in dict.fromkeys(key for quote in members for key in quote.numbers):
            holders = [quote for quote in members if metric in quote.numbers and not quote.sd]
            if any(not _agree(a, b, metric) for a, b in combinations(holders, 2)):
                rows.append((method, split, metric, {q.paper: q.numbers[metric] for q in holders}))
    return rows


def _agree(a: Quote, b: Quote, metric: str) -> bool:
    first, second = a.numbers[metric], b.numbers[metric]
    decimals = _decimals(first), _decimals(second)
    slack = 10.0 ** -min(decimals) / 2 if decimals[0] != decimals[1] else 0.0
    return abs(first - second) <= slack + 1e-9


def exchanged_splits(found: Iterable[Quote]) -> list[tuple[Quote, Quote]]:
    """Pairs of quotes of one method that agree in all shared numbers (three or more) but not in the split."""
    return [
        (a, b)
        for a, b in combinations(found, 2)
        if a.method == b.method
        and a.split != b.split
        and len(shared := a.numbers.keys() & b.numbers.keys()) >= 3
        and all(abs(a.numbers[key] - b.numbers[key]) < 1e-9 for key in shared)
    ]
