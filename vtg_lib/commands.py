"""What the commands of `vtg` do; the command line itself is `vtg_lib.cli`. Everything heavy is imported where used."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.cli import Reply
from vtg_lib.parameters import ROOT

if TYPE_CHECKING:
    from vtg_lib.papers.schema import Paper
    from vtg_lib.runs import RunSpec
    from vtg_lib.store import Store


def evaluate(options: argparse.Namespace) -> Reply:
    """`vtg eval`."""
    from vtg_lib import metrics
    from vtg_lib.submission import read_jsonl, read_submission

    truth = read_jsonl(options.gt)
    predictions = read_submission(options.pred, truth)
    nested = metrics.evaluate(predictions, truth)
    if options.recall:
        nested["recall"] = metrics.recall_and_miou(predictions, truth)
    lines = [f"{name:24} {value:6.2f}" for name, value in [*nested["brief"].items(), *nested.get("recall", {}).items()]]
    return Reply(value=_without_nan(nested), text="\n".join(lines))


def models(options: argparse.Namespace) -> Reply:
    """`vtg models`."""
    import torch

    from vtg_lib.models import MODELS, count_parameters

    rows: list[dict[str, Any]] = []
    for name, entry in MODELS.items():
        for preset, config, published in _presets(entry):
            with torch.device("meta"):  # shapes are enough to count
                parameters = count_parameters(entry.model_class(config))
            rows.append(
                {
                    "model": name,
                    "preset": preset,
                    "parameters": parameters,
                    "published_parameters": None if published is None else round(published * 1e6),
                }
            )
    lines = [f"{'model':14}{'preset':28}{'parameters':>12}{'published':>12}{'differs by':>12}"]
    for row in rows:
        known = row["published_parameters"]
        beside = f"{known:12,}{row['parameters'] / known - 1:12.1%}" if known else f"{'–':>12}{'–':>12}"
        lines.append(f"{row['model']:14}{row['preset']:28}{row['parameters']:12,}{beside}")
    return Reply(value=rows, text="\n".join(lines))


def _presets(entry: Any) -> Iterable[tuple[str, Any, float | None]]:
    """(name, config, published parameters in millions): the published sizes are of the QVHighlights models."""
    for dataset in ("qvhighlights", "charades_sta", "tacos"):
        try:
            config = entry.config_class.paper(dataset)
        except ValueError:  # nothing was published for it
            continue
        yield dataset, config, entry.published_parameters if dataset == "qvhighlights" else None
        if dataset == "qvhighlights":
            for name, changes, published in entry.variants:
                yield f"{dataset}, {name}", dataclasses.replace(config, **changes), published


def tables(options: argparse.Namespace) -> Reply:
    """`vtg tables`."""
    from vtg_lib import tables as tables_module
    from vtg_lib.papers import load_paper, paper_keys

    found = []
    for key in [options.paper] if options.paper else paper_keys():
        paper = load_paper(key)
        released = tables_module.released_scores(paper, options.data_root)
        found += tables_module.to_json(paper, _store(options, paper), released)
    return Reply(value=found, text="\n\n".join(_table_text(table) for table in found))


def _table_text(table: Mapping[str, Any]) -> str:
    lines = [f"{table['paper']} {table['table']}: {table['caption']}"]
    width = max((len(row["label"]) for row in table["rows"]), default=0)
    for row in table["rows"]:
        best, cells = row["best"], []
        for column in table["columns"]:
            paper, ours = row["paper"].get(column), best["mean"].get(column)
            if paper is None and ours is None:
                continue
            sd = best["sd"].get(column)
            spread = "" if sd is None else f" ± {sd:.2f}"
            cells.append(f"{column} {'–' if paper is None else f'{paper:g}'} | {'–' if ours is None else f'{ours:.2f}{spread}'}")
        evidence = f"[{best['evidence']}, n = {best['n']}]" if best["evidence"] else "[not run]"
        lines.append(f"  {row['label']:{width}}  {evidence:18} " + "; ".join(cells))
    return "\n".join(lines)


def data_list(options: argparse.Namespace) -> Reply:
    """`vtg data list`."""
    from vtg_lib.data.fetch import list_rows

    rows = list_rows(options.data_root)
    lines = [f"{'set':34}{'kind':13}{'size':>10}  {'here':6}{'licence'}"]
    for row in rows:
        size = f"{row['size'] / 1e6:,.1f} MB" if row["size"] else (row["stated_size"] or "?")
        lines.append(f"{row['name']:34}{row['kind']:13}{size:>10}  {row['present']:6}{row['licence']}")
    return Reply(value=rows, text="\n".join(lines))


def data_fetch(options: argparse.Namespace) -> Reply:
    """`vtg data fetch`."""
    from vtg_lib.data.fetch import fetch

    rows: list[dict[str, Any]] = []
    for name in options.sets:
        rows += fetch(name, options.data_root, force=options.force, keep_archives=options.keep_archives)
    return _checked(rows)


def data_verify(options: argparse.Namespace) -> Reply:
    """`vtg data verify`: exit code 1 if a file is wrong (not if one is missing)."""
    from vtg_lib.data.fetch import verify

    rows: list[dict[str, Any]] = []
    for name in options.sets or [None]:
        rows += verify(name, options.data_root)
    return _checked(rows)


def data_record(options: argparse.Namespace) -> Reply:
    """`vtg data record`: for maintainers with the real files."""
    from vtg_lib import recorded
    from vtg_lib.data import data_root

    record = recorded.make(data_root(options.data_root))
    recorded.write(record)
    counts = {part: len(entries) for part, entries in record.items()}
    return Reply(value=counts, text=f"{recorded.RECORD}: " + ", ".join(f"{n} {part}" for part, n in counts.items()))


def _checked(rows: list[dict[str, Any]]) -> Reply:
    lines = [f"{row['status']:11}{row['path']}  {row.get('detail') or ''}".rstrip() for row in rows]
    return Reply(value=rows, text="\n".join(lines), code=int(any(row["status"] == "wrong" for row in rows)))


def render(options: argparse.Namespace) -> Reply:
    """`vtg render`."""
    from vtg_lib.data import load_data
    from vtg_lib.export import export_data

    knobs = _knobs(options.data)
    if Path(options.out).exists():
        raise ValueError(f"--out {options.out} exists already: give a folder that does not, or remove it")
    summary = export_data(load_data(knobs, root=options.data_root), Path(options.out), knobs)
    lines = [f"{name}: {split['queries']} queries, {split['videos']} videos" for name, split in summary["splits"].items()]
    return Reply(value=summary, text="\n".join([*lines, f"written to {options.out}"]))


def run(options: argparse.Namespace) -> Reply:
    """`vtg run`."""
    from vtg_lib.runs import load_data, trained_model
    from vtg_lib.runs import run as run_spec
    from vtg_lib.store import Store

    spec = _spec(options)
    store = Store(options.store) if options.store else None
    common = {"device": _device(options.device), "checkpoint_root": options.checkpoints, "data_root": options.data_root}
    keep = options.predictions is not None
    result = run_spec(spec, store, rerun=options.rerun, keep_weights=keep, **common)
    if keep:
        from vtg_lib.inference import predict
        from vtg_lib.submission import write_submission

        model = trained_model(spec, **common)
        write_submission(options.predictions, predict(model, load_data(spec, options.data_root)["val"]))
    lines = [f"run {result.hash}: {spec.model}, seed {spec.seed}, best epoch {result.provenance['best_epoch']}"]
    lines += [f"{name:24} {value:6.2f}" for name, value in result.metrics["val"].items()]
    lines.append(f"{result.provenance['wall_s']:.0f} s on {result.provenance['device']}")
    return Reply(value=result.to_dict(), text="\n".join(lines))


def _spec(options: argparse.Namespace) -> RunSpec:
    """The run that `vtg run`'s options describe."""
    from vtg_lib.runs import RunSpec

    if (options.spec is not None) + (options.paper is not None) + (options.model is not None) != 1:
        raise ValueError("give one of --spec FILE, --paper P --table T --row R, or --model M")
    if options.spec is not None:
        try:
            value = json.loads(Path(options.spec).read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{options.spec}: expected a run spec as JSON, got {error}") from None
        if not isinstance(value, dict):
            raise ValueError(f"{options.spec}: expected a run spec as a JSON object, got {type(value).__name__}")
    elif options.paper is not None:
        value = _row_value(options)
    else:
        value = {"model": options.model}
    for name in ("config", "data", "train"):
        if changes := _knobs(getattr(options, name)):
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
    spec = row_spec(table.row(options.row), paper.profile(options.profile), options.dataset, options.seed or 0)
    return {**dataclasses.asdict(spec), "diagnostics": spec.diagnostics}


def sweep(options: argparse.Namespace) -> Reply:
    """`vtg sweep`: exit code 1 if a run failed."""
    from vtg_lib.papers import load_paper, plan
    from vtg_lib.provenance import usable_cores
    from vtg_lib.runs import find
    from vtg_lib.sweep import sweep as sweep_specs

    paper = load_paper(options.paper)
    if paper.profile(options.profile).evidence is None and options.store is None:
        raise ValueError(f"profile {options.profile} only exercises code; its runs are no evidence: name a --store for them")
    seeds = _seeds(options.seeds)
    chosen = options.tables.split(",") if options.tables else None
    specs = [] if options.dose and not chosen else [p.spec for p in plan(paper, options.profile, seeds, chosen)]
    if options.dose:
        from vtg_lib.dose import dose_specs

        studies = None if options.dose == "all" else options.dose.split(",")
        specs += [spec for _, spec in dose_specs(paper.key, options.profile, seeds, studies)]
        specs.sort(key=lambda spec: seeds.index(spec.seed))  # stable: a whole set of fewer seeds before more of them
    store = _store(options, paper)
    if options.dry_run:
        rows: list[dict[str, Any]] = [
            {"hash": s.hash, "model": s.model, "seed": s.seed, "stored": find(store, s) is not None} for s in specs
        ]
        lines = [f"{row['hash']}  {row['model']:12} seed {row['seed']}{'  stored' if row['stored'] else ''}" for row in rows]
        return Reply(value=rows, text="\n".join([*lines, f"{sum(not row['stored'] for row in rows)} to train"]))
    device = _device(options.device)
    report = sweep_specs(
        specs,
        store,
        workers=options.workers or (usable_cores() if device == "cpu" else 1),
        time_budget=options.time_budget,
        device=device,
        checkpoint_root=options.checkpoints,
        data_root=options.data_root,
        partial=options.partial,
        rerun=options.rerun,
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
    from vtg_lib.papers import load_paper
    from vtg_lib.provenance import usable_cores
    from vtg_lib.replay import RECORD, due, replay_all
    from vtg_lib.store import Store

    records = due(_store(options, load_paper(options.paper)), options.models and options.models.split(","))
    if options.dry_run:
        lines = [f"{r['hash']}  {r['spec']['model']:12} made by {r['provenance']['source_digest']}" for r in records]
        return Reply(value=[r["hash"] for r in records], text="\n".join([*lines, f"{len(records)} to replay"]))
    workers = options.workers or usable_cores()
    value, lines = [], []
    for found in replay_all(records, Store(RECORD), workers=workers, data_root=options.data_root):
        value.append(dataclasses.asdict(found))
        differs = "; ".join(f"{name} was {was}, is {now}" for name, (was, now) in found.differs.items())
        lines.append(f"{found.hash}  {found.model:12} {found.earlier} -> {found.now}  {differs or 'same numbers'}")
    changed = sum(bool(row["differs"]) for row in value)
    return Reply(value=value, text="\n".join([*lines, f"{len(value)} replayed, {changed} changed"]), code=int(changed > 0))


def bench(options: argparse.Namespace) -> Reply:
    """`vtg bench`."""
    from vtg_lib.bench import describe, run_benchmarks

    if options.record:
        return _record_efficiency(options)
    if options.precision is not None:
        raise ValueError("--precision goes with --record; the parts measure every precision that they are about")
    value = run_benchmarks(
        options.only.split(",") if options.only else None,
        model=options.model,
        size=options.size or "sim",
        device=_device(options.device),
        data_root=options.data_root,
        reference=options.reference,
    )
    return Reply(value=value, text=describe(value))


def _record_efficiency(options: argparse.Namespace) -> Reply:
    from vtg_lib import efficiency
    from vtg_lib.bench import describe

    if options.size == "sim" or options.only or options.reference:
        raise ValueError("--record measures a training step at paper size: leave out --size sim, --only and --reference")
    value = efficiency.measure(options.model, _device(options.device), options.precision)
    efficiency.save(value)
    return Reply(value=value, text=f"{describe({options.model: value})}\nwritten to {efficiency.RECORD}")


# ------------------------------------------------------------------------------------------------------------ options


def _store(options: argparse.Namespace, paper: Paper) -> Store:
    from vtg_lib.store import Store

    return Store(options.store or ROOT / "results" / f"{paper.chapter}.jsonl")


def _knobs(items: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs, the values read as YAML."""
    import yaml

    found = {}
    for item in items:
        key, sign, text = item.partition("=")
        if not key or not sign:
            raise ValueError(f"expected KEY=VALUE, got {item!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"expected KEY=VALUE with a YAML value, got {item!r}") from None
        try:  # YAML takes 1e-3 for a word
            value = float(value) if isinstance(value, str) else value
        except ValueError:
            pass
        found[key] = value
    return found


def _seeds(text: str) -> list[int]:
    """`3` -> [0, 1, 2]; `0,2,5` -> [0, 2, 5]."""
    try:
        numbers = [int(part) for part in text.split(",") if part]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or numbers == [0] and "," not in text:
        raise ValueError(f"--seeds: expected how many (3) or which (0,2,5), got {text!r}")
    return numbers if "," in text else list(range(numbers[0]))


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU; use --device cpu")
    return name


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value
