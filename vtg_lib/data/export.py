"""Writing a data set to disk in the layout of the public features, for other code to read."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from vtg_lib.data.batches import GroundingData


def export_data(
    splits: Mapping[str, GroundingData], folder: Path, spec: Mapping[str, Any], *, captions: bool = False
) -> dict[str, Any]:
    """Write `splits` below `folder`, which appears only when all of it is there.

    `<split>.jsonl`: annotations; where rows about one video see different clips of it, as in a view, every
    row's `vid` gets its `qid`. `<split>/video/<vid>.npz`: `features`, `[T, D]` or `[K, T, D]`.
    `<split>/text/qid<qid>.npz`: `last_hidden_state`, `[L, D]`. `data.json`: spec, facts, shapes,
    fingerprints. With `captions` also `<split>_captions.jsonl`, every query with one of its moments (see
    `vtg_lib.data.pseudo.world.captions`).

    Returns:
        What `data.json` holds.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        summary: dict[str, Any] = {"spec": dict(spec), "splits": {}}
        for name, data in splits.items():
            summary["splits"][name] = _export_split(data, partial, name)
            if captions:
                _write_lines(partial / f"{name}_captions.jsonl", _captions(data, spec))
        (partial / "data.json").write_text(
            json.dumps(summary, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def _export_split(data: GroundingData, root: Path, name: str) -> dict[str, Any]:
    for part in ("video", "text"):
        (root / name / part).mkdir(parents=True)
    written = set()
    annotations = _named(data)
    for row, annotation in enumerate(tqdm(annotations, desc=name, unit="query", leave=False)):
        video = int(data.video_index[row])
        if video not in written:
            written.add(video)
            features = data.video[video][..., : int(data.video_length[video]), :]
            np.savez(root / name / "video" / f"{annotation['vid']}.npz", features=features.float().numpy())
        words = data.text[row][..., : int(data.text_length[row]), :]
        np.savez(
            root / name / "text" / f"qid{annotation['qid']}.npz", last_hidden_state=words.float().numpy()
        )
    _write_lines(root / f"{name}.jsonl", annotations)
    return {
        "queries": len(data),
        "videos": len(written),
        "video": list(data.video.shape[1:]),
        "text": list(data.text.shape[1:]),
        "clip_length": data.clip_length,
        "fingerprint": data.fingerprint,
        "facts": data.facts,
    }


def _captions(data: GroundingData, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    from vtg_lib.data.pseudo import world

    named = dataclasses.replace(data, annotations=_named(data))
    return world.captions(named, spec.get("seed") or 0)


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _named(data: GroundingData) -> list[dict[str, Any]]:
    """The annotations; one name a video."""
    names = {(row["vid"], int(video)) for row, video in zip(data.annotations, data.video_index, strict=True)}
    if len(names) == len({name for name, _ in names}):
        return data.annotations
    return [{**row, "vid": f"{row['vid']}_qid{row['qid']}"} for row in data.annotations]
