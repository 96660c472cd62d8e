"""Data sets by name and evidence kind: `load_data` gives the splits that a run trains and is scored on."""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.data.generate import CLIP_LENGTH, SPLITS, WorldConfig, generate
from vtg_lib.data.render import Embeddings, RenderConfig, render
from vtg_lib.data.timeline import TimelineConfig, Vocabulary, from_annotations
from vtg_lib.files import ANNOTATIONS, ROOT

__all__ = [
    "Batch",
    "GroundingData",
    "Output",
    "cast_like",
    "data_root",
    "feature_dims",
    "load_data",
    "real_rows",
    "resolve",
]

# The data sets with moments, and the seconds per clip of their common features. Charades-STA has no
# validation split: a tenth of its training videos is held out, so that no epoch is chosen on test.
REAL = {"qvhighlights": 2.0, "charades_sta": 1.0, "tacos": 2.0}
# By kind, what differs from the knobs' defaults.
WORLDS: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "worlds.yaml").read_text())
PLAIN, LIKE = (
    "qvhighlights",
    "sim like ",
)  # what a generated world resembles by itself, and the names of the others
MAX_WORDS = {"qvhighlights": 32}  # tokens of a query that the public loaders keep (max_q_l)
_KNOBS = {config: dataclasses.asdict(config()) for config in (WorldConfig, TimelineConfig, RenderConfig)}


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of real data: `root`, else `VTG_DATA_ROOT`, else `data/` in the checkout, or here if there
    is none.
    """
    return Path(
        root or os.environ.get("VTG_DATA_ROOT") or (ROOT if (ROOT / "Makefile").exists() else Path()) / "data"
    )


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with every default spelled out, which is what identifies a data set; None stands for the
    default.

    Raises:
        ValueError: unknown kind, a knob that this kind does not have, or a value of another type.
    """
    spec = {key: value for key, value in spec.items() if value is not None}
    kind = spec.pop("kind", "sim")
    if kind == "official":
        return {"kind": kind, "dataset": "qvhighlights", **spec}
    if kind not in ("sim", "rendered"):
        raise ValueError(f"data: expected kind 'sim', 'rendered' or 'official', got {kind!r}")
    configs = (WorldConfig, TimelineConfig, RenderConfig) if kind == "sim" else (TimelineConfig, RenderConfig)
    knobs = {
        "seed": 0,
        **{name: value for config in configs for name, value in _KNOBS[config].items()},
        **WORLDS[kind],
    }
    optional: dict[str, Any] = {"train_scene_action": 0.0}
    if kind == "rendered":
        knobs["dataset"], optional["limit"] = "qvhighlights", 0
    elif spec.get("dataset", PLAIN) == PLAIN:
        spec.pop("dataset", None)
    else:
        optional["dataset"] = PLAIN
        knobs |= {
            name: cast_like(name, knobs[name], value) for name, value in _world_like(spec["dataset"]).items()
        }
    if unknown := sorted(set(spec) - set(knobs) - set(optional)):
        raise ValueError(
            f"data: kind {kind!r} has no knobs {unknown}; it has {sorted({**knobs, **optional})}"
        )
    cast = {
        name: cast_like(f"data.{name}", {**knobs, **optional}[name], value) for name, value in spec.items()
    }
    return {"kind": kind, **knobs, **cast}


def _world_like(dataset: str) -> dict[str, Any]:
    """Knobs of the generated world that resembles another data set than QVHighlights."""
    known = {name.removeprefix(LIKE): knobs for name, knobs in WORLDS.items() if name.startswith(LIKE)}
    if dataset not in known:
        raise ValueError(f"data: expected a world like {', '.join([PLAIN, *known])}; got {dataset!r}")
    return known[dataset]


def cast_like(name: str, default: Any, value: Any) -> Any:
    """`value` in the type of `default`, where that loses nothing: 1 for 1.0, a list for a tuple.

    Raises:
        ValueError: a value of another type.
    """
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, float) and number:
        return float(value)
    if isinstance(default, int) and not isinstance(default, bool) and number and value == int(value):
        return int(value)
    if default is None or (type(value) is type(default) and not isinstance(value, float)):
        return value
    raise ValueError(f"{name}: expected {type(default).__name__}, got {value!r}")


def _configs(spec: Mapping[str, Any]) -> list[Any]:
    """`WorldConfig`, `TimelineConfig` and `RenderConfig` of a resolved spec."""
    return [
        config(**{name: spec.get(name, default) for name, default in knobs.items()})
        for config, knobs in _KNOBS.items()
    ]


def feature_dims(spec: Mapping[str, Any]) -> tuple[int, int]:
    """Channels of video and text that `load_data(spec)` gives."""
    config = _configs(resolve(spec))[2]
    return config.semantic_dim + (config.motion_dim if config.layout == "clips" else 0), config.semantic_dim


def load_data(
    spec: Mapping[str, Any], *, root: str | os.PathLike[str] | None = None
) -> dict[str, GroundingData]:
    """The splits of a data specification: `train`, `val` and, where there is one, `test`.

    Args:
        spec: `kind` (`sim`: generated annotations; `rendered`: the real ones of `dataset`; `official`: those
            with downloaded features, named by `features`, a set of `data_manifests/`, `video`, its arrays to
            join, and `text`); any field of `TimelineConfig` and `RenderConfig`, and for `sim` of
            `WorldConfig`, with `dataset` for a world like that data set; `seed` of the world (0); `limit`:
            rows kept of each real split; `train_scene_action`: the scene-action correlation in train, where
            it differs from val's.
        root: see `data_root`.

    Raises:
        ValueError: unknown kind, data set or knob.
        FileNotFoundError: the annotations of a real data set are missing; says how to get them.
    """
    spec = resolve(spec)
    kind = spec["kind"]
    if kind == "official":
        return _official(spec, root)
    seed = spec["seed"]
    world, timeline, config = _configs(spec)
    vocabulary = Vocabulary()
    parts = {}
    real = {} if kind == "sim" else real_rows(spec["dataset"], root, spec.get("limit"))
    for number, split in enumerate(SPLITS[: 3 if world.test else 2] if kind == "sim" else real):
        own = timeline
        if split == "train" and "train_scene_action" in spec:
            own = dataclasses.replace(timeline, scene_action=spec["train_scene_action"])
        if kind == "sim":
            parts[split] = (*generate(world, own, vocabulary, split, seed), CLIP_LENGTH)
        else:
            clip_length = REAL[spec["dataset"]]
            made = from_annotations(real[split], vocabulary, clip_length, own, seed * len(SPLITS) + number)
            parts[split] = (real[split], *made, clip_length)
    embeddings = Embeddings(config, vocabulary, timeline.scenes, seed)
    return {
        split: render(
            *part[:3], embeddings, config, part[3], seed * len(SPLITS) + number, {"kind": kind, "spec": spec}
        )
        for number, (split, part) in enumerate(parts.items())
    }


def _official(spec: Mapping[str, Any], root: str | os.PathLike[str] | None) -> dict[str, GroundingData]:
    from vtg_lib.data.official import official_data

    known = {"kind", "dataset", "features", "video", "text", "limit"}
    missing = {"features", "video", "text"} - set(spec)
    if missing or set(spec) - known:
        raise ValueError(
            f"official data: expected the fields {sorted(known)}; missing {sorted(missing)}, got {sorted(spec)}"
        )
    rows = real_rows(spec["dataset"], root, spec.get("limit"))
    sources = spec["features"], spec["video"], spec["text"]
    return official_data(
        spec["dataset"], rows, *sources, data_root(root), max_words=MAX_WORDS.get(spec["dataset"])
    )


def real_rows(
    dataset: str, root: str | os.PathLike[str] | None = None, limit: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The labelled annotations of a real data set by split; test where its file is there.

    Raises:
        ValueError: unknown data set. FileNotFoundError: training or validation annotations are missing.
    """
    from vtg_lib.data.annotations import read_annotations

    if dataset not in REAL:
        raise ValueError(f"data: expected data set {', '.join(REAL)}; got {dataset!r}")
    rows: dict[str, list[dict[str, Any]]] = {}
    for split in SPLITS:
        if split not in ANNOTATIONS[dataset]:
            rows["val"] = [row for row in rows["train"] if _held_out(row["vid"])]
            rows["train"] = [row for row in rows["train"] if not _held_out(row["vid"])]
        elif (path := data_root(root) / ANNOTATIONS[dataset][split]).exists():
            rows[split] = read_annotations(path)
        elif split != "test":
            raise FileNotFoundError(
                f"{path} is missing; get it with `vtg data fetch {dataset}` or point VTG_DATA_ROOT at your copy"
            )
    return {split: part[:limit] for split, part in rows.items()}


def _held_out(vid: str) -> bool:
    return zlib.crc32(vid.encode()) % 10 == 0
