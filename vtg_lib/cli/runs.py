"""What the commands of `vtg` that train and measure do; the command line itself is `vtg_lib.cli.main`. See
`vtg_lib.cli.data`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.cli.main import Reply
from vtg_lib.cli.options import device_of, knobs, seeds_of, store_of

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec


def run(options: argparse.Namespace) -> Reply:
    """`vtg run`."""
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.run import load_data, trained_model
    from vtg_lib.experiments.run import run as run_spec
    from vtg_lib.experiments.store import Store

    spec = _spec(options)
    store = Store(options.store) if options.store else None
    machine = Machine(
        device=device_of(options.device),
        checkpoint_root=options.checkpoints and Path(options.checkpoints),
        data_root=options.data_root and Path(options.data_root),
        rerun=options.rerun,
    )
    keep = options.predictions is not None
    result = run_spec(spec, store, machine, keep_weights=keep)
    if keep:
        from vtg_lib.evaluation.submission import write_submission
        from vtg_lib.models.inference import predict

        model = trained_model(spec, machine)
        write_submission(options.predictions, predict(model, load_data(spec, machine.data_root)["val"]))
    lines = [
        f"run {result.hash}: {spec.model}, seed {spec.seed}, best epoch {result.provenance['best_epoch']}"
    ]
    lines += [f"{name:24} {value:6.2f}" for name, value in result.metrics["val"].items()]
    lines.append(f"{result.provenance['wall_s']:.0f} s on {result.provenance['device']}")
    return Reply(value=result.to_dict(), text="\n".join(lines))


def _spec(options: argparse.Namespace) -> RunSpec:
    """The run that `vtg run`'s options describe."""
    from vtg_lib.experiments.spec import RunSpec

    if (options.spec is not None) + (options.paper is not None) + (options.model is not None) != 1:
        raise ValueError("give one of --spec FILE, --paper P --table T --row R, or --model M")
    if options.spec is not None:
        try:
            value = json.loads(Path(options.spec).read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{options.spec}: expected a run spec as JSON, got {error}") from None
        if not isinstance(value, dict):
            raise ValueError(
                f"{options.spec}: expected a run spec as a JSON object, got {type(value).__name__}"
            )
    elif options.paper is not None:
        value = _row_value(options)
    else:
        value = {"model": options.model}
    for name in ("config", "data", "train"):
        if changes := knobs(getattr(options, name)):
            value[name] = {**value.get(name, {}), **changes}
    if options.seed is not None:
        value["seed"] = options.seed
    return RunSpec.from_dict(value)


def _row_value(options: argparse.Namespace) -> dict[str, Any]:
    from vtg_lib.papers import load_paper, row_spec

    if options.table is None or options.row is None:
        raise ValueError("--paper needs --table and --row; `vtg tables` shows them")
    paper = load_paper(options.paper)
    table = paper.table(options.table)
    labels = [row.label for row in table.rows]
    if options.row not in labels:
        raise ValueError(f"{options.table} has no row {options.row!r}; it has {', '.join(labels)}")
    spec = row_spec(
        table.row(options.row), paper.profile(options.profile), options.dataset, options.seed or 0
    )
    return {**dataclasses.asdict(spec), "diagnostics": spec.diagnostics}


def sweep(options: argparse.Namespace) -> Reply:
    """`vtg sweep`: exit code 1 if a run failed."""
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.provenance import usable_cores
    from vtg_lib.experiments.run import find
    from vtg_lib.experiments.sweep import sweep as sweep_specs
    from vtg_lib.models import MODELS
    from vtg_lib.papers import load_paper, plan

    paper = load_paper(options.paper)
    if paper.profile(options.profile).evidence is None and options.store is None:
        raise ValueError(
            f"profile {options.profile} only exercises code; its runs are no evidence: name a --store for them"
        )
    seeds = seeds_of(options.seeds)
    chosen = options.tables.split(",") if options.tables else None
    models = options.models.split(",") if options.models else None
    if unknown := sorted(set(models or ()) - set(MODELS)):
        raise ValueError(f"--models: unknown {', '.join(unknown)}; there are {', '.join(MODELS)}")
    specs = (
        []
        if options.dose and not chosen
        else [p.spec for p in plan(paper, options.profile, seeds, chosen, models)]
    )
    if options.dose:
        from vtg_lib.papers.dose import dose_specs

        studies = None if options.dose == "all" else options.dose.split(",")
        dosed = [spec for _, spec in dose_specs(paper.key, options.profile, seeds, studies)]
        specs += [spec for spec in dosed if models is None or spec.model in models]
        specs.sort(
            key=lambda spec: seeds.index(spec.seed)
        )  # stable: a whole set of fewer seeds before more of them
    store = store_of(options, paper)
    if options.dry_run:
        rows: list[dict[str, Any]] = [
            {"hash": s.hash, "model": s.model, "seed": s.seed, "stored": find(store, s) is not None}
            for s in specs
        ]
        lines = [
            f"{row['hash']}  {row['model']:12} seed {row['seed']}{'  stored' if row['stored'] else ''}"
            for row in rows
        ]
        return Reply(
            value=rows, text="\n".join([*lines, f"{sum(not row['stored'] for row in rows)} to train"])
        )
    device = device_of(options.device)
    report = sweep_specs(
        specs,
        store,
        Machine(
            device=device,
            checkpoint_root=options.checkpoints and Path(options.checkpoints),
            data_root=options.data_root and Path(options.data_root),
            rerun=options.rerun,
        ),
        workers=options.workers or (usable_cores() if device == "cpu" else 1),
        time_budget=options.time_budget,
        partial=options.partial,
    )
    value = {
        "store": str(store.path),
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


def replay(options: argparse.Namespace) -> Reply:
    """`vtg replay`: exit code 1 if a number changed."""
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.provenance import REPLAYS, usable_cores
    from vtg_lib.experiments.replay import due, replay_all
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers import load_paper

    records = due(store_of(options, load_paper(options.paper)), options.models and options.models.split(","))
    if options.dry_run:
        lines = [
            f"{r['hash']}  {r['spec']['model']:12} made by {r['provenance']['source_digest']}"
            for r in records
        ]
        return Reply(
            value=[r["hash"] for r in records], text="\n".join([*lines, f"{len(records)} to replay"])
        )
    workers = options.workers or usable_cores()
    value, lines = [], []
    machine = Machine(data_root=options.data_root and Path(options.data_root))
    for found in replay_all(records, Store(REPLAYS), machine, workers=workers):
        value.append(dataclasses.asdict(found))
        differs = "; ".join(f"{name} was {was}, is {now}" for name, (was, now) in found.differs.items())
        lines.append(
            f"{found.hash}  {found.model:12} {found.earlier} -> {found.now}  {differs or 'same numbers'}"
        )
    changed = sum(bool(row["differs"]) for row in value)
    return Reply(
        value=value,
        text="\n".join([*lines, f"{len(value)} replayed, {changed} changed"]),
        code=int(changed > 0),
    )


def bench(options: argparse.Namespace) -> Reply:
    """`vtg bench`."""
    from vtg_lib.experiments.bench import describe, run_benchmarks
    from vtg_lib.experiments.bench.memory import RECORD, measure, save

    device, models = device_of(options.device), options.model.split(",")
    if not options.record:
        if options.precision is not None:
            raise ValueError(
                "--precision goes with --record; the parts measure every precision that they are about"
            )
        only = options.only.split(",") if options.only else None
        specs = [_bench_spec(model, options.size or "sim") for model in models]
        where = {"device": device, "data_root": options.data_root, "reference": options.reference}
        value = run_benchmarks(specs, only, **where)
        return Reply(value=value, text=describe(value))
    if options.size == "sim" or options.only or options.reference:
        raise ValueError(
            "--record measures a training step at paper size: leave out --size sim, --only and --reference"
        )
    # as papers train on a GPU; a CPU has no float16
    precision = options.precision or ("float16" if device.startswith("cuda") else "float32")
    value = {model: measure(_bench_spec(model, "paper", precision), device) for model in models}
    for record in value.values():
        save(record)
    one = len(models) == 1
    return Reply(value=value[models[0]] if one else value, text=f"{describe(value)}\nwritten to {RECORD}")


def _bench_spec(model: str, size: str, precision: str = "float32") -> RunSpec:
    """`model` at the size of the first paper's profile `sim` that has rows of it, or as published ("paper").

    Raises:
        ValueError: no such model, or no paper with such a profile has a row of it.
    """
    from vtg_lib.experiments.bench.steps import at_paper_size
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.models import entry
    from vtg_lib.papers import load_paper, paper_keys

    entry(model)  # refuses unknown names
    name = "sim" if size == "sim" else "rendered"
    for paper in map(load_paper, paper_keys()):
        if name in paper.profiles and any(row.model == model for table in paper.tables for row in table.rows):
            overrides = paper.profiles[name].overrides(model, "qvhighlights")
            train = {"batch_size": overrides.train.get("batch_size", 32), "learning_rate": 1e-5}
            data = {knob: v for knob, v in overrides.data.items() if knob not in ("dataset", "limit")}
            spec = RunSpec.from_dict(
                {
                    "model": model,
                    "config": dict(overrides.config),
                    "data": data | {"kind": "sim"},
                    "train": train | {"precision": precision},
                }
            )
            return spec if size == "sim" else at_paper_size(spec)
    raise ValueError(f"no paper has a profile {name} and a row of {model}")
