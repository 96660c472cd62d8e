"""How right pseudo-labels are on generated worlds, where the truth is known: measured while the page is made,
which takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.captions import NAMES, RULES
from vtg_lib.book.tables import GROUP, code, table, with_sd
from vtg_lib.data.pseudo.quality import INTERVAL, measure
from vtg_lib.evaluation.statistics import summarise

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter

Rows = list[dict[str, Any]]
SEEDS, CAPTIONS = 4, 256  # worlds, and captions of each
LIVE_SEEDS, LIVE_CAPTIONS = 2, 32  # of a profile whose numbers mean nothing
SHOWN: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "clips: precision": lambda row: row["clips"]["precision"],
    "clips: recall": lambda row: row["clips"]["recall"],
    "moments: precision": lambda row: row["moments"]["precision"],
    "moments: recall": lambda row: row["moments"]["recall"],
    "unnamed moments: recall": lambda row: row["unnamed"],
}
_MORE: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "moments a caption": lambda row: row["moments_per_query"],
    "grade ~ votes (ρ)": lambda row: row["grade_rank"],
}


@functools.lru_cache(maxsize=2)
def _measured(seeds: int, captions: int) -> tuple[Rows, ...]:
    return tuple(measure({"train": captions}, seed=seed) for seed in range(seeds))


def measured(chapter: Chapter) -> tuple[Rows, ...]:
    """`vtg_lib.data.pseudo.quality.measure` of several worlds, the same for every page of a profile."""
    smoke = chapter.profile == "smoke"
    return _measured(LIVE_SEEDS if smoke else SEEDS, LIVE_CAPTIONS if smoke else CAPTIONS)


def quality_table(found: Sequence[Rows]) -> HTML:
    """Precision and recall in percent, mean and sd over worlds, by likeness of the distractors and by reading
    of Eq. 17.
    """
    rows: list[dict[str, Any]] = []
    for similarity in _similarities(found):
        rows.append({GROUP: f"distractors that share {similarity:.0%} of the caption's concepts"})
        for rule, name in NAMES.items():
            cells = {
                key: _cell(_values(found, pick, similarity, rule), 100, 0) for key, pick in SHOWN.items()
            }
            cells |= {key: _cell(_values(found, pick, similarity, rule)) for key, pick in _MORE.items()}
            rows.append({"threshold": name, **cells})
    return table(rows)


def quality_figure(found: Sequence[Rows]) -> HTML:
    """Precision and recall of clips, moments and unnamed moments, by how alike the distractors are."""
    x = _similarities(found)
    drawn = {
        key: {
            name: (x, 100 * np.array([_values(found, pick, at, rule) for at in x]).T)
            for rule, name in NAMES.items()
        }
        for key, pick in SHOWN.items()
    }
    figure = plots.panels(
        drawn,
        xlabel="share of the caption's concepts that distractors show",
        ylabel="percent",
        limits=(-3, 103),
    )
    told = "; ".join(
        f"{key}: "
        + ", ".join(
            f"{name} {values.mean(0)[0]:.0f} to {values.mean(0)[-1]:.0f}"
            for name, (_, values) in lines.items()
        )
        for key, lines in drawn.items()
    )
    caption = (
        f"Labels of {len(found)} generated worlds; bands: 95 % interval over worlds. A moment is found at "
        "IoU 0.5; unnamed are those that the caption's interval leaves out."
    )
    ends = f"from distractors that share {x[0]:g} of the concepts to {x[-1]:g}"
    return plots.show(figure, f"How right pseudo-labels are, {ends}. {told}.", caption)


def quality_told(found: Sequence[Rows]) -> HTML:
    """Which reading finds moments best in these worlds, and what it costs that distractors are alike."""
    from IPython.display import HTML

    similarities = _similarities(found)
    told = []
    for similarity in similarities:
        scores = {rule: _harmonic(found, similarity, rule) for rule in RULES}
        best = max(RULES, key=lambda rule: float(np.mean(scores[rule])))
        wins = sum(max(RULES, key=lambda rule: scores[rule][n]) == best for n in range(len(found)))
        told.append(
            f"{NAMES[best]} at {similarity:g} (F1 {100 * np.mean(scores[best]):.0f}, best in {wins} of "
            f"{len(found)} worlds)"
        )
    precise = SHOWN["clips: precision"]
    first, last = (
        100 * np.mean(_values(found, precise, at, RULES[0])) for at in (similarities[0], similarities[-1])
    )
    alone = 100 * np.mean([_harmonic(found, at, INTERVAL) for at in similarities])
    text = (
        "Of the readings of Eq. 17 the one that finds moments best, by likeness of the distractors: "
        f"{', '.join(told)}. The interval alone, right by construction, has F1 {alone:.0f} and finds no "
        f"moment that it does not name. The default, {NAMES[RULES[0]]}, has {first:.0f} % of its clips right "
        f"at {similarities[0]:g} and {last:.0f} % at {similarities[-1]:g}. This is a finding about these "
        "worlds; it does not tell which reading the authors used."
    )
    return HTML(f"<p>{code(text)}</p>")


def _similarities(found: Sequence[Rows]) -> list[float]:
    return list(dict.fromkeys(row["distractor_similarity"] for row in found[0]))


def _values(
    found: Sequence[Rows], pick: Callable[[dict[str, Any]], float | None], similarity: float, rule: str
) -> list[float]:
    """A number of each world, NaN where it has none."""
    rows = (
        next(row for row in rows if (row["distractor_similarity"], row["threshold"]) == (similarity, rule))
        for rows in found
    )
    return [float("nan") if (value := pick(row)) is None else value for row in rows]


def _harmonic(found: Sequence[Rows], similarity: float, rule: str) -> list[float]:
    """F1 of the moments of each world."""
    precision, recall = (
        np.array(_values(found, SHOWN[f"moments: {part}"], similarity, rule))
        for part in ("precision", "recall")
    )
    return np.nan_to_num(2 * precision * recall / (precision + recall)).tolist()


def _cell(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    found = summarise(scale * np.array(values))
    return with_sd(found.mean, found.sd, digits)
