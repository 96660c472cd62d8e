"""What chapters display of how stored runs trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import code, folded, frame_html, tally
from vtg_lib.book.views.common import not_run
from vtg_lib.evaluation.statistics import summarise
from vtg_lib.papers.readings import epochs_to_share

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.experiments.run import RunResult


def stored_runs(chapter: Chapter, table: str) -> dict[str, list[RunResult]]:
    """The stored runs of a table's rows, by label, at the first profile with evidence that has any; rows
    without are left out.
    """
    from vtg_lib.experiments.run import find
    from vtg_lib.papers import row_spec
    from vtg_lib.papers.plan import row_datasets

    rows = [row for row in chapter.paper.table(table).rows if row.model is not None]
    seeds = sorted({record["spec"]["seed"] for record in chapter.store})
    for size in chapter.paper.profiles.values():
        if size.evidence is None:
            continue
        dataset = row_datasets(chapter.paper.table(table), size)[0]
        runs = {
            row.label: [
                find(chapter.store, dataclasses.replace(row_spec(row, size, dataset, seed), keep=False))
                for seed in seeds
            ]
            for row in rows
        }
        found = {label: [run for run in kept if run is not None] for label, kept in runs.items() if any(kept)}
        if found:
            return found
    return {}


def convergence_table(chapter: Chapter, table: str) -> HTML:
    """Epochs until a run reaches 90 % of its last validation mAP, and where runs ended.

    Highlights are learned first, and from the sentence: the run of a row that ranks clips worst shows whether
    it was read.
    """
    import pandas as pd

    found = stored_runs(chapter, table)
    if not found:
        return not_run(chapter, "Convergence", f"--tables {table}")
    rows = []
    for label, runs in found.items():
        epochs, moments, highlights = (
            [np.array(run.curves[name], dtype=float).tolist() for run in runs]
            for name in ("epoch", "MR-full-mAP", "HL-min-VeryGood-mAP")
        )
        reached = [epochs_to_share(*curve) for curve in zip(epochs, moments, strict=True)]
        whole = summarise([math.nan if epoch is None else epoch for epoch in reached])
        cells: dict[str, Any] = {"row": label, "epochs to 90 %": whole.mean, "sd": whole.sd}
        for name, curves in (("mAP", moments), ("HD mAP", highlights)):
            last = [curve[-1] for curve in curves]
            cells |= {f"last {name}": np.mean(last), f"lowest {name}": min(last)}
        rows.append(cells | {"n": whole.n})
    return frame_html(pd.DataFrame(rows), digits=1, fold="Epochs to 90 % of the last mAP, and where runs end")


def mean_curves(chapter: Chapter, table: str) -> HTML:
    """mAP on validation by epoch of a table's rows, means over seeds of equally long runs."""
    found = stored_runs(chapter, table)
    if not found:
        return not_run(chapter, "Curves", f"--tables {table}")
    longest = max((run.curves["epoch"] for runs in found.values() for run in runs), key=len)
    series = {
        label: np.array([run.curves["MR-full-mAP"] for run in runs if run.curves["epoch"] == longest], float)
        for label, runs in found.items()
    }
    epochs = np.array(longest, float).tolist()
    series = {label: values for label, values in series.items() if len(values)}
    figure = plots.curves(epochs, series, xlabel="epoch", ylabel="mAP on validation (points)")
    told = "; ".join(f"{label} ends at {values[:, -1].mean():.1f}" for label, values in series.items())
    return plots.show(
        figure,
        f"mAP on validation by epoch: {told}.",
        "mAP on validation (points, 0 to 100) by epoch; bands: 95 % interval over seeds.",
    )


def learned(chapter: Chapter) -> HTML:
    """Whether the runs of profile `sim` have learned: the rule that sets their length, on the paper's
    yardstick.
    """
    import pandas as pd
    from IPython.display import HTML

    from vtg_lib.papers.rule import check_rule

    found = check_rule(chapter.paper, chapter.store)
    words = {True: "kept", False: "broken", None: "not known yet"}
    rows = [{"rule": part, "state": words[kept]} for part, kept in found.parts.items()]
    told = f"{found.row}: {found.learned} of {found.seeds} runs learned to read"
    if found.learned:
        told += f"; mAP on test {found.mean:.1f} ± {found.sd:.1f}" if found.learned > 1 else ""
        told += f"; {found.seconds:.0f} s a run, in the median"
    if found.doubled:
        told += f"; twice the training: {found.moved:+.1f} mAP ({found.doubled} seeds)"
    parts = folded(f"The rule: {tally(row['state'] for row in rows)}", frame_html(pd.DataFrame(rows)).data)
    return HTML(f"<p>{code(told)}.</p>{parts}")


def reading(chapter: Chapter, table: str | None = None) -> HTML:
    """Every stored run of a table's rows, and when it began to read; of the yardstick's table by default."""
    from vtg_lib.book.figures.reading import Run, reading_figure
    from vtg_lib.papers.verdict import METRIC, UNREAD, began_to_read, has_learned

    if table is None:
        assert chapter.paper.yardstick is not None
        table = chapter.paper.yardstick[0]
    found = stored_runs(chapter, table)
    if not found:
        return not_run(chapter, "Curves by seed", f"--tables {table}")
    lines = {
        label: [
            Run(
                epochs=np.array(run.curves["epoch"], float).tolist(),
                values=np.array(run.curves[METRIC], float).tolist(),
                learned=has_learned(run.to_dict()),
                began=began_to_read(run.to_dict()),
            )
            for run in runs
        ]
        for label, runs in found.items()
    }
    told = []
    for label, runs in lines.items():
        began = [run.began for run in runs if run.began is not None]
        when = f", from epoch {np.mean(began):.1f} on in the mean" if began else ""
        ends = np.mean([run.values[-1] for run in runs])
        told.append(f"{label}: {sum(r.learned for r in runs)} of {len(runs)} read{when}; end at {ends:.1f}")
    return plots.show(
        reading_figure(lines),
        f"mAP on validation by epoch, a line a seed. {'; '.join(told)}.",
        "mAP on validation (points, 0 to 100) by epoch, a line a seed; dashed: has not learned to read. Dot: "
        f"begins to read, at the first evaluation whose mAP less {100 * (1 - UNREAD):.0f} % reaches what the "
        "finished run finds with sentences swapped between videos. Swapping is stored of finished runs "
        "alone, so it may be earlier.",
    )


def trials(chapter: Chapter) -> HTML:
    """What was tried on tuning worlds, the same for every method, and what was chosen."""
    import pandas as pd

    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import search

    path = chapter.store.path.parent / search.SEARCH.name
    found = search.trials(chapter.paper, "sim", Store(path))
    if not found:
        return not_run(chapter, "The search for learning rates", "")
    best = search.chosen(found)
    rows = [
        {
            "method": one.model,
            "learning rate": f"{one.rate:g}",
            "validation mAP": one.mean,
            "worlds": len(one.scores),
            "learned": f"{one.learned} of {len(one.scores)}",
            "chosen": "✓" if best[one.model] == one.rate else "",
        }
        for one in found
    ]
    told = f"Learning rates tried, of {len(best)} method{'s' * (len(best) != 1)}"
    return frame_html(pd.DataFrame(rows), digits=1, fold=told)


def lengths(chapter: Chapter) -> HTML:
    """mAP on validation, mean and sd over seeds, at a quarter, half and all of the training, for every row
    that claims of the book's papers compare; and what training the yardsticks twice as long gives.
    """
    import pandas as pd

    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import load_paper, paper_keys, row_spec
    from vtg_lib.papers.evidence import TUNING, index_runs
    from vtg_lib.papers.rule import DATASET, PROFILE, yardstick
    from vtg_lib.papers.verdict import METRIC, has_learned

    rows: list[dict[str, Any]] = []
    for paper in (paper for paper in map(load_paper, paper_keys()) if not paper.draft):
        if paper.yardstick is None:
            continue
        runs = index_runs(Store(chapter.store.path.parent / f"{paper.chapter}.jsonl"))
        twice = runs.get(yardstick(paper, 0, 2).cost_key, {})
        named = [
            row for claim in paper.claims for _, pair in claim.pairs for row in (pair.treated, pair.control)
        ]
        for table, label in dict.fromkeys([paper.yardstick, *named]):
            spec = row_spec(paper.table(table).row(label), paper.profile(PROFILE), DATASET, 0)
            found = {s: r for s, r in runs.get(spec.cost_key, {}).items() if s < TUNING and has_learned(r)}
            if len(found) < 2:
                continue
            cells: dict[str, Any] = {"chapter": paper.short, "row": label, "seeds": len(found)}
            for share, name in ((0.25, "a quarter"), (0.5, "half"), (1.0, "all")):
                whole = summarise([_at(record, share) for record in found.values()])
                cells |= {name: whole.mean, f"sd, {name}": whole.sd}
            both = [
                (twice[s]["metrics"]["val"][METRIC], r["metrics"]["val"][METRIC])
                for s, r in found.items()
                if s in twice
            ]
            is_it = (table, label) == paper.yardstick and both
            cells["twice as long"] = f"{np.mean([a - b for a, b in both]):+.1f}" if is_it else ""
            rows.append(cells)
    return (
        frame_html(pd.DataFrame(rows), digits=1)
        if rows
        else not_run(chapter, "The lengths of training", "--claims all")
    )


def _at(record: Mapping[str, Any], share: float) -> float:
    """The curve at the last evaluation within a share of the training."""
    epochs = record["spec"]["train"]["epochs"]
    curve = zip(record["curves"]["epoch"], record["curves"]["MR-full-mAP"], strict=True)
    return [float(value) for epoch, value in curve if epoch <= share * epochs][-1]
