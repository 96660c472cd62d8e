"""What the commands of `vtg` do, but for those of `vtg_lib.cli.runs`. Everything heavy is imported where
used.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vtg_lib.cli.main import Reply, without_nan
from vtg_lib.cli.options import knobs, store_of


def evaluate(options: argparse.Namespace) -> Reply:
    """`vtg eval`."""
    from vtg_lib.evaluation import protocol as metrics
    from vtg_lib.evaluation.submission import read_jsonl, read_submission

    truth = read_jsonl(options.gt)
    predictions = read_submission(options.pred, truth)
    nested = metrics.evaluate(predictions, truth)
    if options.recall:
        nested["recall"] = metrics.recall_and_miou(predictions, truth)
    lines = [
        f"{name:24} {value:6.2f}"
        for name, value in [*nested["brief"].items(), *nested.get("recall", {}).items()]
    ]
    return Reply(value=without_nan(nested), text="\n".join(lines))


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
    from vtg_lib.papers import load_paper, paper_keys
    from vtg_lib.papers import tables as tables_module

    found = []
    for key in [options.paper] if options.paper else paper_keys():
        paper = load_paper(key)
        released = tables_module.released_scores(paper, options.data_root)
        found += tables_module.to_json(paper, store_of(options, paper), released)
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
            cells.append(
                f"{column} {'–' if paper is None else f'{paper:g}'} | {'–' if ours is None else f'{ours:.2f}{spread}'}"
            )
        evidence = f"[{best['evidence']}, n = {best['n']}]" if best["evidence"] else "[not run]"
        lines.append(f"  {row['label']:{width}}  {evidence:18} " + "; ".join(cells))
    return "\n".join(lines)


def data_list(options: argparse.Namespace) -> Reply:
    """`vtg data list`."""
    from vtg_lib.data.sources.fetch import list_rows

    rows = list_rows(options.data_root)
    lines = [f"{'set':34}{'kind':13}{'size':>10}  {'here':6}{'licence'}"]
    for row in rows:
        size = f"{row['size'] / 1e6:,.1f} MB" if row["size"] else (row["stated_size"] or "?")
        lines.append(f"{row['name']:34}{row['kind']:13}{size:>10}  {row['present']:6}{row['licence']}")
    return Reply(value=rows, text="\n".join(lines))


def data_fetch(options: argparse.Namespace) -> Reply:
    """`vtg data fetch`."""
    from vtg_lib.data.sources.fetch import fetch

    rows: list[dict[str, Any]] = []
    for name in options.sets:
        rows += fetch(name, options.data_root, force=options.force, keep_archives=options.keep_archives)
    return _checked(rows)


def data_verify(options: argparse.Namespace) -> Reply:
    """`vtg data verify`: exit code 1 if a file is wrong (not if one is missing)."""
    from vtg_lib.data.sources.fetch import verify

    rows: list[dict[str, Any]] = []
    for name in options.sets or [None]:
        rows += verify(name, options.data_root)
    return _checked(rows)


def data_record(options: argparse.Namespace) -> Reply:
    """`vtg data record`: for maintainers with the real files."""
    from vtg_lib.book.foundations import record
    from vtg_lib.data import data_root
    from vtg_lib.evaluation.released import RECORD

    found = record.make(data_root(options.data_root))
    record.write(found)
    counts = {part: len(entries) for part, entries in found.items()}
    return Reply(value=counts, text=f"{RECORD}: " + ", ".join(f"{n} {part}" for part, n in counts.items()))


def _checked(rows: list[dict[str, Any]]) -> Reply:
    lines = [f"{row['status']:11}{row['path']}  {row.get('detail') or ''}".rstrip() for row in rows]
    return Reply(value=rows, text="\n".join(lines), code=int(any(row["status"] == "wrong" for row in rows)))


def render(options: argparse.Namespace) -> Reply:
    """`vtg render`."""
    from vtg_lib.data import load_data
    from vtg_lib.data.export import export_data

    settings = knobs(options.data)
    if Path(options.out).exists():
        raise ValueError(f"--out {options.out} exists already: give a folder that does not, or remove it")
    summary = export_data(load_data(settings, root=options.data_root), Path(options.out), settings)
    lines = [
        f"{name}: {split['queries']} queries, {split['videos']} videos"
        for name, split in summary["splits"].items()
    ]
    return Reply(value=summary, text="\n".join([*lines, f"written to {options.out}"]))
