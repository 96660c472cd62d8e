"""The commands of `vtg` about annotations, tables, models and data; the command line itself is
`vtg_lib.cli.main`.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vtg_lib import files
from vtg_lib.cli.options import DataRoot, PaperStore, Reply, knobs, pairs, store_of, without_nan


def evaluate(
    *,
    pred: Annotated[
        Path,
        typer.Option(metavar="P.jsonl", help="predictions as submitted, or answers in words"),
    ],
    gt: Annotated[
        Path,
        typer.Option(
            metavar="G", help="annotations of the same queries: JSON lines, or any layout that `vtg` reads"
        ),
    ],
    recall: Annotated[
        bool, typer.Option("--recall", help="add R1@{0.3,0.5,0.7} and mIoU (Charades-STA, TACoS)")
    ] = False,
    protocol: Annotated[
        Literal["qvhighlights", "tvsum", "youtube"] | None, typer.Option(help="default: by the labels")
    ] = None,
    unit: Annotated[
        Literal["seconds", "fraction", "percent"] | None,
        typer.Option(help="of predicted windows, and of bare numbers in answers in words; default: seconds"),
    ] = None,
    clip_length: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="of a clip that saliency is of; default: told. For tvsum and youtube, scores are then read "
            "at the labels' times; default: by number",
        ),
    ] = None,
    ties: Annotated[
        Literal["in time", "won", "lost"], typer.Option(help="order of equal scores, for tvsum and youtube")
    ] = "in time",
    durations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="seconds by video (JSON or CSV), for annotations without them"),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="score the queries that both files have")
    ] = False,
) -> Reply:
    """`vtg eval`."""
    from vtg_lib.data.annotations import read_annotations
    from vtg_lib.data.datasets import SCORED
    from vtg_lib.evaluation import scoring
    from vtg_lib.evaluation.reading import read_submission

    if clip_length is not None and not clip_length > 0:
        raise ValueError(f"--clip-length: expected a positive number of seconds, got {clip_length}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        truth = read_annotations(gt, SCORED, durations)
        given = {"match_number": not allow_missing, "clip_length": clip_length}
        predictions = read_submission(pred, truth, unit=unit, **given)  # type: ignore[arg-type]
    chosen = {"name": protocol, "recall": recall, "ties": ties}
    nested, notes = scoring.evaluate(predictions, truth, **chosen, **given)  # type: ignore[arg-type]
    notes = [*(str(warning.message) for warning in caught), *notes]
    for note in notes:
        print(f"vtg: note: {note}", file=sys.stderr)
    lines = [
        f"{name:28} {value:6.2f}"
        for name, value in [*nested["brief"].items(), *nested.get("recall", {}).items()]
    ]
    return Reply(value=without_nan({**nested, "notes": notes}), text="\n".join(lines))


def models() -> Reply:
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
    """(name, config, published millions of parameters); what is published is of the QVHighlights models."""
    for dataset in ("qvhighlights", "charades_sta", "tacos"):
        try:
            config = entry.config_class.paper(dataset)
        except ValueError:  # nothing was published for it
            continue
        yield dataset, config, entry.published_parameters if dataset == "qvhighlights" else None
        if dataset == "qvhighlights":
            for name, changes, published in entry.variants:
                yield f"{dataset}, {name}", dataclasses.replace(config, **changes), published


def tables(
    *,
    paper: Annotated[str | None, typer.Option(metavar="KEY", help="key of one paper; default all")] = None,
    store: PaperStore = None,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg tables`."""
    from vtg_lib.papers import load_paper, paper_keys
    from vtg_lib.papers import tables as tables_module
    from vtg_lib.papers.evidence import released_scores

    found = []
    for key in [paper] if paper else paper_keys():
        loaded = load_paper(key)
        released = released_scores(loaded, data_root)
        found += tables_module.to_json(loaded, store_of(store, loaded), released)
    return Reply(value=found, text="\n\n".join(_table_text(table) for table in found))


def claims(
    *,
    paper: Annotated[str | None, typer.Option(metavar="KEY", help="key of one paper; default all")] = None,
    store: PaperStore = None,
) -> Reply:
    """`vtg claims`."""
    from vtg_lib.papers import load_paper, paper_keys
    from vtg_lib.papers.claims import to_json
    from vtg_lib.papers.verdict import DECIDED

    found = []
    for loaded in map(load_paper, [paper] if paper else paper_keys()):
        found += to_json(loaded, store_of(store, loaded))
    decided = sum(one["verdict"] in DECIDED for one in found)
    lines = [_claim_text(one) for one in found]
    return Reply(value=found, text="\n".join([*lines, f"{decided} of {len(found)} claims are decided"]))


def _claim_text(one: Mapping[str, Any]) -> str:
    found = f"{one['claim'].rstrip('.')}: {one['verdict']}"
    if one["difference"] is None:
        return found
    interval = "" if one["low"] is None else f" ({one['low']:+.2f} to {one['high']:+.2f})"
    printed = "" if one["paper_difference"] is None else f", printed {one['paper_difference']:+.2f}"
    learned = "learned: " + " and ".join(f"{hits} of {number}" for hits, number in one["learned"])
    needed = "" if one["needed_seeds"] is None else f"; {one['needed_seeds']} seeds would decide"
    seeds = f"{one['seeds']} seeds" if one["seeds"] != 1 else "1 seed"
    return f"{found}. {one['column']} {one['difference']:+.2f}{interval}, {seeds}{printed}; {learned}{needed}"


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
            printed = "–" if paper is None else f"{paper:g}"
            mean = "–" if ours is None else f"{ours:.2f}" + ("" if sd is None else f" ± {sd:.2f}")
            cells.append(f"{column} {printed} | {mean}")
        evidence = f"[{best['evidence']}, n = {best['n']}]" if best["evidence"] else "[not run]"
        lines.append(f"  {row['label']:{width}}  {evidence:18} " + "; ".join(cells))
    return "\n".join(lines)


def data_list(*, data_root: DataRoot = None) -> Reply:
    """`vtg data list`."""
    from vtg_lib.data.sources.fetch import list_rows

    rows = list_rows(data_root)
    lines = [f"{'set':34}{'kind':13}{'size':>10}  {'here':6}{'licence'}"]
    for row in rows:
        size = f"{row['size'] / 1e6:,.1f} MB" if row["size"] else (row["stated_size"] or "?")
        lines.append(f"{row['name']:34}{row['kind']:13}{size:>10}  {row['present']:6}{row['licence']}")
    return Reply(value=rows, text="\n".join(lines))


def data_fetch(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="names from `vtg data list`")],
    *,
    force: Annotated[bool, typer.Option("--force", help="download again and replace")] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="keep archives after unpacking")
    ] = False,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg data fetch`."""
    from vtg_lib.data.sources.fetch import fetch

    return _checked(
        [row for name in sets for row in fetch(name, data_root, force=force, keep_archives=keep_archives)]
    )


def data_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what the data set is called from now on")],
    *,
    annotations: Annotated[list[str] | None, pairs("split=FILE, e.g. train=t.jsonl val=v.jsonl")] = None,
    video: Annotated[list[str] | None, pairs("name=FOLDER, e.g. clip=features/clip")] = None,
    text: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="features of the words, a file a query")
    ] = None,
    durations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="seconds by video, for annotations without them")
    ] = None,
    clip_length: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="default: what the files agree on")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="leave vectors as long as they are, which the field does not")
    ] = False,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg data add`."""
    from vtg_lib.data.own import add, path_of

    given = {"--annotations": annotations, "--video": video, "--text": text}
    if lacking := [option for option, value in given.items() if not value]:
        raise ValueError(f"{lacking[0]}: expected one; see `vtg data add --help`")
    assert text is not None
    data, facts = add(
        name,
        {split: str(path) for split, path in knobs(annotations).items()},
        {key: str(folder) for key, folder in knobs(video).items()},
        text,
        durations=durations,
        clip_length=clip_length,
        normalise=not raw,
        root=data_root,
    )
    counts = ", ".join(
        f"{split} {queries} queries of {facts['videos'][split]} videos"
        for split, queries in facts["queries"].items()
    )
    lines = [
        f"{name}: {counts}; clips of {facts['clip_length']:g} s",
        f"written to {path_of(name, data_root)}",
        f"train on it: vtg run --model qd_detr --data kind=own name={name} "
        f"--config video_dim={facts['video_dim']} text_dim={facts['text_dim']} --predictions p.jsonl",
    ]
    return Reply(value={"name": name, **facts, "file": str(path_of(name, data_root))}, text="\n".join(lines))


def data_verify(
    sets: Annotated[list[str] | None, typer.Argument(metavar="[SET...]", help="default: all")] = None,
    *,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg data verify`: exit code 1 if a file is wrong (not if one is missing)."""
    from vtg_lib.data.sources.fetch import verify

    wanted: tuple[str | None, ...] = tuple(sets or ()) or (None,)
    return _checked([row for name in wanted for row in verify(name, data_root)])


def data_record(*, data_root: DataRoot = None) -> Reply:
    """`vtg data record`: for maintainers with the real files."""
    from vtg_lib.book.foundations import record
    from vtg_lib.evaluation.released import RECORD

    found = record.make(files.data_root(data_root))
    record.write(found)
    counts = {part: len(entries) for part, entries in found.items()}
    return Reply(value=counts, text=f"{RECORD}: " + ", ".join(f"{n} {part}" for part, n in counts.items()))


def _checked(rows: list[dict[str, Any]]) -> Reply:
    lines = [f"{row['status']:11}{row['path']}  {row.get('detail') or ''}".rstrip() for row in rows]
    return Reply(value=rows, text="\n".join(lines), code=int(any(row["status"] == "wrong" for row in rows)))


def render(
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="a folder that does not exist yet")],
    data: Annotated[
        list[str] | None, pairs("e.g. kind=rendered, dataset=qvhighlights, layout=levels, train=1024")
    ] = None,
    dynamic_context: Annotated[
        bool, typer.Option(help="only the validation split, every moment in another video's context")
    ] = False,
    captions: Annotated[
        bool,
        typer.Option("--captions", help="also SPLIT_captions.jsonl, one moment a query, for pseudo-label"),
    ] = False,
    data_root: DataRoot = None,
) -> Reply:
    """`vtg render`."""
    from vtg_lib.data import load_data, views
    from vtg_lib.data.export import export_data

    settings = knobs(data)
    if out.exists():
        raise ValueError(f"--out {out} exists already: give a folder that does not, or remove it")
    splits = load_data(settings, root=data_root)
    if dynamic_context:
        splits = {"val": views.dynamic_context(splits["val"])}
        settings = {**settings, "view": "dynamic context"}
    summary = export_data(splits, out, settings, captions=captions)
    lines = [
        f"{name}: {split['queries']} queries, {split['videos']} videos"
        for name, split in summary["splits"].items()
    ]
    return Reply(value=summary, text="\n".join([*lines, f"written to {out}"]))
