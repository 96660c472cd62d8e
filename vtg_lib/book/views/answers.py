"""What methods answer to the same queries: on which kinds each fails, how alike they are, and two of them
side by side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures as foundations
from vtg_lib.book.tables import template
from vtg_lib.book.views.common import not_run
from vtg_lib.book.views.side_by_side import SPLIT, TABLE
from vtg_lib.evaluation import per_query
from vtg_lib.evaluation.per_query import Ranked

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.evaluation.submission import Row

EXPLORED, SHOWN = 6, 3  # queries of the explorer, and answers of a method
_BARS = template("""
<svg viewBox="0 0 {{ duration }} {{ 7 * lines|length + 1 }}" preserveAspectRatio="none" role="img"
 aria-label="{{ told }}" style="width:100%;height:{{ 14 * lines|length + 2 }}px;border:1px solid #8888">
{% for bars in lines %}{% set at = loop.index0 %}{% for start, end in bars %}
<rect x="{{ start|number(1) }}" y="{{ 7 * at + 1 }}" width="{{ (end - start)|number(1) }}" height="5"
 fill="{{ colour }}" fill-opacity="{{ 1 - 0.3 * at }}"/>
{% endfor %}{% endfor %}</svg><p>{{ told }}</p>""")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What methods answered on one split, by label: submissions and these beside the truth."""

    truth: Sequence[Row]
    rows: Mapping[str, Sequence[Row]]
    ranked: Mapping[str, Ranked]


def answers(chapter: Chapter) -> Answers:
    """Every method's answers to the test split of the first world, by its kept weights. At `smoke` all
    methods are trained for it; else those whose weights the store lacks are left out.
    """
    from vtg_lib.experiments.run import find
    from vtg_lib.models.inference import predict

    specs = {row.label: chapter.spec(TABLE, row.label, seed=0) for row in chapter.paper.table(TABLE).rows}
    if chapter.profile != "smoke":
        kept = {label: dataclasses.replace(spec, keep=True, diagnostics=()) for label, spec in specs.items()}
        specs = {label: specs[label] for label, spec in kept.items() if find(chapter.store, spec) is not None}
    truth: Sequence[Row] = ()
    rows: dict[str, Sequence[Row]] = {}
    # methods that read the same data one after the other, as only the last data stay in memory
    for label, (model, _) in sorted(
        chapter.train(specs).items(), key=lambda entry: str(specs[entry[0]].data)
    ):
        split = chapter.data(specs[label])[SPLIT]
        assert not truth or [row["relevant_windows"] for row in truth] == [
            row["relevant_windows"] for row in split.annotations
        ]
        truth = split.annotations
        rows[label] = predict(model, split)
    rows = {label: rows[label] for label in specs}  # as the table has them
    return Answers(
        truth=truth, rows=rows, ranked={label: Ranked.join(found, truth) for label, found in rows.items()}
    )


def kinds_figure(chapter: Chapter, found: Answers) -> HTML:
    """mAP of every method on queries of each kind."""
    if not found.rows:
        return _no_weights(chapter, "Kinds of queries")
    kinds = {name: of for name, of in per_query.kinds(found.truth).items() if len(of) > 1}
    columns = [f"{name}: {kind}" for name, of in kinds.items() for kind in of]
    keep = [mask for of in kinds.values() for mask in of.values()]
    values = np.array([[100 * one.ap[mask].mean() for mask in keep] for one in found.ranked.values()])
    numbers = ", ".join(f"{column} {int(mask.sum())}" for column, mask in zip(columns, keep, strict=True))
    hardest = "; ".join(
        f"{label}: worst on {columns[int(row.argmin())]} ({row.min():.1f})"
        for label, row in zip(found.ranked, values, strict=True)
    )
    return plots.show(
        plots.matrix(values, list(found.ranked), columns),
        f"mAP by kind of query. {hardest}.",
        f"mAP on the queries of each kind, one world. Queries: {numbers}.",
    )


def agreement_figure(chapter: Chapter, found: Answers) -> HTML:
    """How alike methods answer: the first predictions' IoU, and the rank correlation of AP over queries."""
    if len(found.rows) < 2:
        return _no_weights(chapter, "Agreement")
    names = list(found.ranked)
    iou, rank = square = np.full((2, len(names), len(names)), np.nan)
    for i, j in combinations(range(len(names)), 2):
        pair = per_query.agreement(found.ranked[names[i]], found.ranked[names[j]])
        square[:, i, j] = square[:, j, i] = pair["iou"], pair["rank"]
    reach = [f"{np.nanmin(values):.2f} and {np.nanmax(values):.2f}" for values in (rank, iou)]
    alt = (
        f"Square of {len(names)} methods. Rank correlations of AP over queries lie between {reach[0]}; mean "
        f"IoU of first predictions between {reach[1]}."
    )
    return plots.show(foundations.agreement(names, iou, rank), alt, "One world, test split.")


def solved_figure(chapter: Chapter, found: Answers) -> HTML:
    """How many methods are right on a query."""
    if len(found.rows) < 2:
        return _no_weights(chapter, "How many are right")
    made = per_query.solved(list(found.ranked.values()))
    share, chance = made["share"], made["chance"]
    alt = (
        f"Bars of queries by the number of methods that are right: none on {share[0]:.0%} (if independent "
        f"{chance[0]:.0%}), all {len(share) - 1} on {share[-1]:.0%} (if independent {chance[-1]:.0%})."
    )
    return plots.show(
        foundations.solved(share, chance),
        alt,
        f"Right: the first prediction has IoU of {per_query.RIGHT} or more.",
    )


def _no_weights(chapter: Chapter, what: str) -> HTML:
    return not_run(chapter, f"{what} (needs kept weights)", f"--tables {TABLE} --seeds 1")


def explorer(chapter: Chapter, found: Answers) -> ipywidgets.VBox | HTML:
    """Choose a query and two methods; see both answer. Works without a kernel."""
    import ipywidgets

    from vtg_lib.book.widgets import FULL, selector

    if len(found.rows) < 2:
        return _no_weights(chapter, "Two methods on one query")
    names, chosen = list(found.rows), _telling(found)
    pages = {name: [_page(found, name, n) for n in chosen] for name in names}
    query = ipywidgets.Stack([ipywidgets.HTML(_truth(found.truth[n]), layout=FULL) for n in chosen])
    by_query = selector([f"{n}: {found.truth[n]['query'][:50]}" for n in chosen], query, "query")
    parts = [by_query, query]
    for place, title in enumerate(("method", "against")):
        stacks = []
        for name in names:
            stack = ipywidgets.Stack(
                [ipywidgets.HTML(page, layout=FULL) for page in pages[name]], selected_index=0
            )
            ipywidgets.jslink((by_query, "index"), (stack, "selected_index"))
            stacks.append(stack)
        outer = ipywidgets.Stack(stacks)
        by_name = selector(names, outer, title)
        by_name.index = outer.selected_index = place
        parts += [by_name, outer]
    return ipywidgets.VBox(parts)


def _telling(found: Answers) -> list[int]:
    """Queries on which methods differ most, by the spread of their AP; in order of the split."""
    spread = np.std([one.ap for one in found.ranked.values()], axis=0)
    return sorted(np.argsort(-spread, kind="stable")[:EXPLORED].tolist())


def _truth(row: Row) -> str:
    told = ", ".join(f"{start:.0f} to {end:.0f} s" for start, end in row["relevant_windows"])
    told = f"“{row['query']}”. True: {told}"
    lines = [row["relevant_windows"]]
    return _BARS.render(lines=lines, duration=row["duration"], colour=plots.TRUTH, told=told)


def _page(found: Answers, name: str, n: int) -> str:
    """One method's first answers to a query, as bars with scores, and its AP."""
    one = found.ranked[name]
    known = [k for k in range(min(SHOWN, one.scores.shape[1])) if not math.isnan(one.scores[n, k])]
    bars = one.spans[n, known].tolist()
    told = "; ".join(
        f"{start:.0f} to {end:.0f} s (score {one.scores[n, k]:.2f}, IoU {one.best[n, k]:.2f})"
        for k, (start, end) in zip(known, bars, strict=True)
    )
    return _BARS.render(
        lines=[[bar] for bar in bars],
        duration=found.truth[n]["duration"],
        colour=plots.PREDICTION,
        told=f"{name}: {told}. AP {100 * one.ap[n]:.1f}",
    )
