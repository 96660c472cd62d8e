"""Data sets by name and evidence kind: `load_data` gives the splits that a run trains and is scored on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.data.generate import CLIP_LENGTH, WorldConfig, generate
from vtg_lib.data.render import Embeddings, RenderConfig, render
from vtg_lib.data.timeline import TimelineConfig, Vocabulary, from_annotations

__all__ = ["Batch", "GroundingData", "Output", "data_root", "feature_dims", "load_data"]

# Annotation files below the data root, as `vtg data fetch` lays them, and the seconds per clip of the common features
REAL = {
    "qvhighlights": ("qvhighlights/highlight_{}_release.jsonl", {"train": "train", "val": "val"}, 2.0),
    "charades_sta": ("charades_sta/charades_{}_release.jsonl", {"train": "train", "val": "test"}, 1.0),
    "tacos": ("tacos/tacos_{}_release.jsonl", {"train": "train", "val": "val"}, 2.0),
}
# Where a kind's world differs from the knobs' defaults. `rendered`: found once with QD-DETR and Moment-DETR against their
# logged validation curves. `sim`: its channels are an order of magnitude narrower, so less noise fits into them. Both are
# part of the renderer's version.
WORLDS: dict[str, dict[str, Any]] = {
    "sim": {"semantic_noise": 0.1, "motion_noise": 0.1},
    "rendered": {"distractor_rate": 4.0, "text_alignment": 0.5, "semantic_noise": 0.2, "motion_noise": 0.2},
}
_KNOBS = {kind: {f.name for f in dataclasses.fields(kind)} for kind in (WorldConfig, TimelineConfig, RenderConfig)}


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of real data: `root`, else `VTG_DATA_ROOT`, else `data/` in the checkout, or here if there is none."""
    checkout = Path(__file__).parents[2]
    return Path(root or os.environ.get("VTG_DATA_ROOT") or (checkout if (checkout / "Makefile").exists() else Path()) / "data")


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with every default spelled out, which is what identifies a data set; None stands for the default.

    Raises:
        ValueError: unknown kind or knob.
    """
    spec = {key: value for key, value in spec.items() if value is not None}
    kind = spec.get("kind", "sim")
    if kind == "official":
        return spec
    if kind not in WORLDS:
        raise ValueError(f"data: expected kind 'sim', 'rendered' or 'official', got {kind!r}")
    knobs = {name: value for config in _KNOBS for name, value in dataclasses.asdict(config()).items()}
    common = {"kind": kind, "seed": 0} | ({"dataset": "qvhighlights"} if kind == "rendered" else {})
    if unknown := set(spec) - set(knobs) - {"kind", "dataset", "seed", "limit", "train_scene_action"}:
        raise ValueError(f"data: unknown knobs {sorted(unknown)}; known: {sorted(knobs)}")
    return {**common, **knobs, **WORLDS[kind], **spec}


def _configs(spec: Mapping[str, Any]) -> list[Any]:
    """The config objects of a resolved spec."""
    spec = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
    return [config(**{name: spec[name] for name in names}) for config, names in _KNOBS.items()]


def feature_dims(spec: Mapping[str, Any]) -> tuple[int, int]:
    """Channels of video and text that `load_data(spec)` gives."""
    config = _configs(resolve(spec))[2]
    return config.semantic_dim + (config.motion_dim if config.layout == "clips" else 0), config.semantic_dim


def load_data(spec: Mapping[str, Any], *, root: str | os.PathLike[str] | None = None) -> dict[str, GroundingData]:
    """The splits `train` and `val` of a data specification.

    Args:
        spec: `kind` (`sim`: generated annotations; `rendered`: the real ones of `dataset`; `official`: those with
            downloaded features, named by `features`, a set of `data_manifests/`, `video`, its arrays to join, and
            `text`); any field of `WorldConfig`, `TimelineConfig` and `RenderConfig`; `seed` of the world (0); `limit`: rows kept
            of each real split;
            `train_scene_action`: the scene-action correlation in train, where it differs from val's.
        root: see `data_root`.

    Raises:
        ValueError: unknown kind, data set or knob.
        FileNotFoundError: the annotations of a real data set are missing; says how to get them.
    """
    spec = resolve(spec)
    kind, seed = spec["kind"], int(spec.get("seed", 0))
    if kind == "official":
        return _official(spec, root)
    world, timeline, config = _configs(spec)
    facts = {"kind": kind, "spec": spec}
    vocabulary = Vocabulary()
    parts = {}
    for number, split in enumerate(("train", "val")):
        own = timeline
        if split == "train" and "train_scene_action" in spec:
            own = dataclasses.replace(timeline, scene_action=spec["train_scene_action"])
        if kind == "sim":
            parts[split] = (*generate(world, own, vocabulary, split, seed), CLIP_LENGTH)
        else:
            rows, clip_length = _real_rows(spec, split, root)
            parts[split] = (rows, *from_annotations(rows, vocabulary, clip_length, own, seed * 2 + number), clip_length)
    embeddings = Embeddings(config, vocabulary, timeline.scenes, seed)
    return {
        split: render(rows, timelines, index, embeddings, config, clip_length, seed * 2 + (split == "val"), facts)
        for split, (rows, timelines, index, clip_length) in parts.items()
    }


def _official(spec: Mapping[str, Any], root: str | os.PathLike[str] | None) -> dict[str, GroundingData]:
    from vtg_lib.data.official import official_data

    known = {"kind", "dataset", "features", "video", "text", "limit"}
    missing = {"features", "video", "text"} - set(spec)
    if missing or set(spec) - known:
        raise ValueError(f"official data: expected the fields {sorted(known)}; missing {sorted(missing)}, got {sorted(spec)}")
    rows = {split: _real_rows(spec, split, root)[0] for split in ("train", "val")}
    dataset = spec.get("dataset", "qvhighlights")
    return official_data(dataset, rows, spec["features"], spec["video"], spec["text"], data_root(root))


def _real_rows(spec: Mapping[str, Any], split: str, root: str | os.PathLike[str] | None) -> tuple[list[dict], float]:
    from vtg_lib.data.annotations import read_annotations

    dataset = spec.get("dataset", "qvhighlights")
    if dataset not in REAL:
        raise ValueError(f"data: expected data set {', '.join(REAL)}; got {dataset!r}")
    pattern, names, clip_length = REAL[dataset]
    path = data_root(root) / pattern.format(names[split])
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; get it with `vtg data fetch {dataset}` or point VTG_DATA_ROOT at your copy")
    return read_annotations(path)[: spec.get("limit")], clip_length
