"""The commands of `vtg` that train; the command line itself is `vtg_lib.cli.main`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vtg_lib.cli.options import (
    Checkpoints,
    DataRoot,
    Device,
    DryRun,
    Models,
    PaperKey,
    PaperStore,
    Reply,
    Rerun,
    Workers,
    knobs,
    listed,
    machine_of,
    names,
    pairs,
    seeds_of,
    store_of,
    writable,
)


def run(
    *,
    spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="a run spec as JSON, as in a line of the store under `spec`"),
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="take the run from a paper: with --profile, --table and --row"),
    ] = None,
    profile: str = "sim",
    table: str | None = None,
    row: Annotated[str | None, typer.Option(help="label of the row")] = None,
    dataset: Annotated[str, typer.Option(help="of the row's columns")] = "qvhighlights",
    model: str | None = None,
    seed: int | None = None,
    config: Annotated[list[str] | None, pairs("e.g. width=64; on top of --spec or the row")] = None,
    data: Annotated[list[str] | None, pairs("e.g. kind=sim; on top of --spec or the row")] = None,
    train: Annotated[list[str] | None, pairs("e.g. epochs=20; on top of --spec or the row")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="HASH|FILE", help="weights to start from: of a run that --store keeps, or a file"
        ),
    ] = None,
    init_scope: Annotated[str | None, typer.Option(metavar="all|encoder", help="which of them")] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="where to look and to store; default: look into the paper's, store nowhere"
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="with --store: keep the weights beside the line")
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="also write the validation predictions as a submission"),
    ] = None,
    reading: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="of --predictions: a head of methods that have several"),
    ] = None,
    device: Device = "auto",
    rerun: Rerun = False,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg run`."""
    from vtg_lib.experiments import run as runs
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import load_paper

    if sum(source is not None for source in (spec, paper, model)) != 1:
        raise ValueError("give one of --spec FILE, --paper P --table T --row R, or --model M")
    if spec is not None:
        value = _read_spec(spec)
    elif paper is not None:
        value = _row_value(paper, profile, table, row, dataset, seed or 0)
    else:
        value = {"model": model}
    for name, changes in (("config", knobs(config)), ("data", knobs(data)), ("train", knobs(train))):
        if changes:
            value[name] = {**value.get(name, {}), **changes}
    value |= {k: v for k, v in (("init", init), ("init_scope", init_scope)) if v is not None}
    if seed is not None:
        if seed < 0:
            raise ValueError(f"--seed: expected a whole number from 0 on, got {seed}")
        value["seed"] = seed
    for file, option in ((predictions, "--predictions"), (store, "--store")):
        if file is not None:
            writable(file, option)
    chosen = RunSpec.from_dict(value)
    machine = machine_of(device, data_root, checkpoints, rerun)
    if keep and store is None:
        raise ValueError("--keep: expected --store FILE, beside which the weights go, got none")
    chosen = dataclasses.replace(chosen, keep=keep or predictions is not None)
    known = Store(store) if store else None if paper is None else store_of(None, load_paper(paper))
    result = None if rerun or known is None else runs.find(known, chosen)
    result = result or runs.run(chosen, known if store else None, machine)
    if predictions is not None:
        from vtg_lib.evaluation.submission import write_submission
        from vtg_lib.models.inference import predict

        module = runs.trained_model(chosen, known, machine)
        module = module if reading is None else _reading(module, chosen.model, reading)
        write_submission(predictions, predict(module, runs.load_data(chosen, data_root)["val"]))
    lines = [
        f"run {result.hash}: {chosen.model}, seed {chosen.seed}, best epoch {result.provenance['best_epoch']}"
    ]
    lines += [f"{name:24} {number:6.2f}" for name, number in result.metrics["val"].items()]
    lines.append(f"{result.provenance['wall_s']:.0f} s on {result.provenance['device']}")
    return Reply(value=result.to_dict(), text="\n".join(lines))


def _reading(module: Any, model: str, name: str) -> Any:
    known = getattr(module, "readings", {})
    if name not in known:
        expected = f"one of {', '.join(known)}" if known else f"none, as {model} has one answer only"
        raise ValueError(f"--reading: expected {expected}; got {name!r}")
    return known[name]


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a run spec as JSON, got {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a run spec as a JSON object, got {type(value).__name__}")
    return value


def _row_value(
    key: str, profile: str, table: str | None, label: str | None, dataset: str, seed: int
) -> dict[str, Any]:
    from vtg_lib.papers import load_paper, row_spec

    if table is None or label is None:
        raise ValueError("--paper needs --table and --row; `vtg tables` shows them")
    paper = load_paper(key)
    rows = {row.label: row for row in paper.table(table).rows}
    if label not in rows:
        raise ValueError(f"{table} has no row {label!r}; it has {', '.join(rows)}")
    spec = row_spec(rows[label], paper.profile(profile), dataset, seed)
    return {**dataclasses.asdict(spec), "diagnostics": spec.diagnostics}


def sweep(
    *,
    paper: PaperKey,
    profile: str = "sim",
    seeds: Annotated[str, typer.Option(help="how many, from 0 (3), or which (0,2,5)")] = "3",
    tables: Annotated[str | None, typer.Option(metavar="IDS", help="such as tab5,tab7; default: all")] = None,
    models: Models = None,
    dose: Annotated[
        str | None,
        typer.Option(
            metavar="KEYS", help="dose-response studies by key, or `all`; with --tables in addition to them"
        ),
    ] = None,
    claims: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="only what these claims, or `all`, are judged by"),
    ] = None,
    time_budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="begin nothing that will not fit")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="begin it nevertheless; it pauses when the time is up")
    ] = False,
    workers: Workers = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="train on the workers of the dask scheduler there"),
    ] = None,
    store: PaperStore = None,
    dry_run: DryRun = False,
    device: Device = "auto",
    rerun: Rerun = False,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg sweep`: exit code 1 if a run failed."""
    from vtg_lib.experiments.provenance import usable_cores
    from vtg_lib.experiments.sweep import sweep as sweep_specs
    from vtg_lib.models import MODELS
    from vtg_lib.papers import load_paper, plan

    loaded = load_paper(paper)
    if loaded.profile(profile).evidence is None and store is None:
        raise ValueError(
            f"profile {profile} only exercises code; its runs are no evidence: name a --store for them"
        )
    chosen, wanted = seeds_of(seeds), names(models)
    if unknown := sorted(set(wanted or ()) - set(MODELS)):
        raise ValueError(f"--models: unknown {', '.join(unknown)}; there are {', '.join(MODELS)}")
    specs = []
    if claims:
        from vtg_lib.papers.claims import claim_specs

        found = claim_specs(
            loaded, loaded.profile(profile), chosen, None if claims == "all" else names(claims)
        )
        specs = [spec for spec in found if wanted is None or spec.model in wanted]
    if tables or not (dose or claims):
        specs += [planned.spec for planned in plan(loaded, profile, chosen, names(tables), wanted)]
    if dose:
        from vtg_lib.papers.dose import dose_specs

        dosed = dose_specs(loaded.key, profile, chosen, None if dose == "all" else names(dose))
        specs += [spec for _, spec in dosed if wanted is None or spec.model in wanted]
        # stable: a whole set of fewer seeds before more of them
        specs.sort(key=lambda spec: chosen.index(spec.seed))
    runs = store_of(store, loaded)
    if dry_run:
        return listed(specs, runs)
    options: dict[str, Any] = {"time_budget": time_budget, "partial": partial}
    if cluster is None:
        machine = machine_of(device, data_root, checkpoints, rerun)
        at_once = workers or (usable_cores() if machine.device == "cpu" else 1)
        report = sweep_specs(specs, runs, machine, workers=at_once, **options)
    else:
        from vtg_lib.experiments.cluster import connect

        machine = machine_of("cpu", data_root, checkpoints, rerun)
        if device != "auto":  # whether the workers have it is not to be seen from here
            machine = dataclasses.replace(machine, device=device)
        with connect(cluster, specs) as executor:
            at_once = workers or executor.workers
            report = sweep_specs(specs, runs, machine, executor=executor, workers=at_once, **options)
    value = {
        "store": str(runs.path),
        "complete": report.complete,
        "trained": [result.hash for result in report.done],
        "stored": report.stored,
        "paused": report.paused,
        "left": report.left,
        "failed": report.failed,
        "wall_s": round(report.wall_s, 2),
    }
    failures = [f"{key} failed: {text.strip().splitlines()[-1]}" for key, text in report.failed.items()]
    return Reply(value=value, text="\n".join([*failures, report.summary()]), code=int(bool(report.failed)))
