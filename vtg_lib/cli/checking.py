"""The commands of `vtg` about stored runs: have they learned, what was tried, do they come out again."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from vtg_lib.cli.options import (
    DataRoot,
    DryRun,
    Models,
    PaperKey,
    PaperStore,
    Reply,
    Workers,
    listed,
    machine_of,
    names,
    seeds_of,
    store_of,
)


def rule(
    *,
    paper: PaperKey,
    double: Annotated[
        str | None, typer.Option(metavar="SEEDS", help="first train these seeds twice as long")
    ] = None,
    workers: Workers = None,
    store: PaperStore = None,
) -> Reply:
    """`vtg rule`: exit code 1 if a part of the rule is broken or unknown."""
    from vtg_lib.experiments.provenance import usable_cores
    from vtg_lib.experiments.sweep import sweep as sweep_specs
    from vtg_lib.papers import load_paper
    from vtg_lib.papers.rule import check_rule, yardstick

    loaded = load_paper(paper)
    runs = store_of(store, loaded)
    if double is not None:
        specs = [yardstick(loaded, seed, 2) for seed in seeds_of(double)]
        sweep_specs(specs, runs, machine_of(), workers=workers or usable_cores())
    found = check_rule(loaded, runs)
    words = {True: "kept", False: "broken", None: "not known"}
    lines = [
        f"{found.row}: {found.learned} of {found.seeds} learned, mAP {found.mean:.2f} ± {found.sd:.2f}; "
        f"twice the training {found.moved:+.2f} ({found.doubled} seeds); {found.seconds:.0f} s a run"
    ]
    lines += [f"{words[kept]}: {part}" for part, kept in found.parts.items()]
    value = dataclasses.asdict(found) | {"parts": found.parts}
    return Reply(value=value, text="\n".join(lines), code=int(not all(found.parts.values())))


def search(
    *,
    paper: PaperKey,
    models: Annotated[str, typer.Option(metavar="NAMES", help="comma-separated; MODEL or MODEL:VARIANT")],
    profile: str = "sim",
    rates: Annotated[
        str | None, typer.Option(metavar="RATES", help="comma-separated; default: those of the book")
    ] = None,
    worlds: Annotated[int, typer.Option(help="tuning worlds, from 1000")] = 2,
    time_budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="begin nothing that will not fit")
    ] = None,
    workers: Workers = None,
    store: PaperStore = None,
    dry_run: DryRun = False,
) -> Reply:
    """`vtg search`: exit code 1 if a run failed."""
    from vtg_lib.experiments.provenance import usable_cores
    from vtg_lib.experiments.store import Store
    from vtg_lib.experiments.sweep import sweep as sweep_specs
    from vtg_lib.papers import load_paper
    from vtg_lib.papers import search as searching
    from vtg_lib.papers.evidence import TUNING

    loaded, runs = load_paper(paper), Store(store or searching.SEARCH)
    tried = [float(rate) for rate in rates.split(",")] if rates else searching.RATES
    where = [TUNING + world for world in range(worlds)]
    specs = searching.search_specs(loaded, profile, models.split(","), tried, where)
    if dry_run:
        return listed(specs, runs)
    at_once = workers or usable_cores()
    report = sweep_specs(specs, runs, machine_of(), workers=at_once, time_budget=time_budget)
    found = searching.trials(loaded, profile, runs)
    best = searching.chosen(found)
    value = [dataclasses.asdict(one) | {"chosen": best[one.model] == one.rate} for one in found]
    lines = [
        f"{one.model:12} {one.rate:8g} mAP {one.mean:6.2f} over {len(one.scores)} worlds, "
        f"{one.learned} learned{'  chosen' if best[one.model] == one.rate else ''}"
        for one in found
    ]
    return Reply(value=value, text="\n".join([*lines, report.summary()]), code=int(bool(report.failed)))


def replay(
    *,
    paper: PaperKey,
    models: Models = None,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", help="N runs, of whatever code; default: those of earlier code"),
    ] = None,
    workers: Workers = None,
    store: PaperStore = None,
    dry_run: DryRun = False,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg replay`: exit code 1 if a number changed."""
    from vtg_lib.experiments.provenance import REPLAYS, usable_cores
    from vtg_lib.experiments.replay import due, replay_all, sampled
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import load_paper

    runs, wanted = store_of(store, load_paper(paper)), names(models)
    records = due(runs, wanted) if sample is None else sampled(runs, sample, wanted)
    if dry_run:
        lines = [
            f"{r['hash']}  {r['spec']['model']:12} made by {r['provenance']['source_digest']}"
            for r in records
        ]
        lines.append(f"{len(records)} to replay")
        return Reply(value=[r["hash"] for r in records], text="\n".join(lines))
    machine = machine_of(data_root=data_root)
    value, lines = [], []
    for found in replay_all(records, Store(REPLAYS), machine, workers=workers or usable_cores()):
        value.append(dataclasses.asdict(found))
        differs = "; ".join(f"{name} was {was}, is {now}" for name, (was, now) in found.differs.items())
        lines.append(
            f"{found.hash}  {found.model:12} {found.earlier} -> {found.now}  {differs or 'same numbers'}"
        )
    changed = sum(bool(row["differs"]) for row in value)
    lines.append(f"{len(value)} replayed, {changed} changed")
    return Reply(value=value, text="\n".join(lines), code=int(changed > 0))
