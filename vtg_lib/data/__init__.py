"""Data sets by name and evidence kind: `load_data` gives the splits that a run trains and is scored on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vtg_lib.data.annotations import read_annotations
from vtg_lib.data.generate import CLIP_LENGTH, SPLITS, generate
from vtg_lib.data.timeline import Vocabulary, from_annotations
from vtg_lib.files import ANNOTATIONS, data_root

# `vtg eval` reads annotations from here: what needs torch is imported where it is used.
if TYPE_CHECKING:
    from vtg_lib.data.batches import GroundingData

# The data sets, and the seconds per clip of their common features. Charades-STA has no validation split: a
# tenth of its training videos is held out, so that no epoch is chosen on test. TVSum and YouTube Highlights
# have none either, and too few videos to hold any out: what the field calls their validation is their test.
REAL = {"qvhighlights": 2.0, "charades_sta": 1.0, "tacos": 2.0, "tvsum": 2.0, "youtube_highlights": 2.0}
MAX_WORDS = {"qvhighlights": 32}  # tokens of a query that the public loaders keep (max_q_l)


def feature_dims(spec: Mapping[str, Any]) -> tuple[int, int]:
    """Channels of video and text that `load_data(spec)` gives."""
    from vtg_lib.data.knobs import configs, resolve

    config = configs(resolve(spec))[2]
    return config.semantic_dim + (config.motion_dim if config.layout == "clips" else 0), config.semantic_dim


def load_data(
    spec: Mapping[str, Any], *, root: str | os.PathLike[str] | None = None
) -> dict[str, GroundingData]:
    """The splits of a data specification: `train`, `val` and, where there is one, `test`.

    Args:
        spec: `kind` (`own`: the set `name` that `vtg data add` made; `sim`: generated annotations;
            `rendered`: the real ones of `dataset`; `official`: those with downloaded features, named by
            `features`, a set of `data_manifests/`, `video`, its arrays to join, and `text`); any field of
            `TimelineConfig`, `RenderConfig` and `LabelConfig`, and for `sim` of `WorldConfig`, with `dataset`
            for a world like that data set; `seed` of the world (0); `limit`: rows kept of each real split.
            Before a knob of what happens in the videos, `train_` and `test_` set it for that split alone.
            `allow_missing` leaves out queries of `own` and `official` data that have no features. `domain`
            and `fold` of highlight sets: see `folds.divide`.
        root: see `vtg_lib.files.data_root`.

    Raises:
        ValueError: unknown kind, data set, knob or domain.
        FileNotFoundError: the annotations of a real data set are missing; says how to get them.
    """
    from vtg_lib.data.folds import divide
    from vtg_lib.data.knobs import DIVISION, resolve

    spec = resolve(spec)
    if spec["kind"] == "own":
        from vtg_lib.data.own import own_data

        return own_data(spec.get("name", ""), root, spec.get("allow_missing", False))
    whole = {name: value for name, value in spec.items() if name not in DIVISION}
    splits = _official(whole, root) if spec["kind"] == "official" else _rendered(whole, root)
    return divide(splits, **{name: spec.get(name, neutral) for name, neutral in DIVISION.items()})


def _rendered(spec: Mapping[str, Any], root: str | os.PathLike[str] | None) -> dict[str, GroundingData]:
    """The splits of a resolved specification of kind `sim` or `rendered`."""
    from vtg_lib.data.appearance import Embeddings
    from vtg_lib.data.knobs import configs, identity
    from vtg_lib.data.pseudo.world import relabelled
    from vtg_lib.data.render import render

    kind = spec["kind"]
    seed = spec["seed"]
    world, timeline, config, labels = configs(spec)
    vocabulary = Vocabulary()
    parts = {}
    real = {} if kind == "sim" else real_rows(spec["dataset"], root, spec.get("limit"))
    for number, split in enumerate(SPLITS[: 3 if world.test else 2] if kind == "sim" else real):
        here, own, *_ = configs(spec, split)
        if kind == "sim":
            parts[split] = (*generate(here, own, vocabulary, split, seed), CLIP_LENGTH)
        else:
            clip_length = REAL[spec["dataset"]]
            made = from_annotations(real[split], vocabulary, clip_length, own, seed * len(SPLITS) + number)
            parts[split] = (real[split], *made, clip_length)
    embeddings = Embeddings(config, vocabulary, timeline.scenes, seed)
    noise = (seed + (world.draw << 20)) * len(SPLITS)
    facts = {"kind": kind, "spec": identity(spec)}
    splits = {
        split: render(*part[:3], embeddings, config, part[3], noise + number, facts)
        for number, (split, part) in enumerate(parts.items())
    }
    return splits | {"train": relabelled(splits["train"], labels, seed)}


def _official(spec: Mapping[str, Any], root: str | os.PathLike[str] | None) -> dict[str, GroundingData]:
    from vtg_lib.data.official import official_data

    known = {"kind", "dataset", "features", "video", "text", "limit", "allow_missing"}
    missing = {"features", "video", "text"} - set(spec)
    if missing or set(spec) - known:
        raise ValueError(
            f"official data: expected the fields {sorted(known)}; missing {sorted(missing)}, got "
            f"{sorted(spec)}"
        )
    rows = real_rows(spec["dataset"], root, spec.get("limit"))
    sources = spec["features"], spec["video"], spec["text"]
    return official_data(
        *(spec["dataset"], rows, *sources, data_root(root)),
        max_words=MAX_WORDS.get(spec["dataset"]),
        allow_missing=spec.get("allow_missing", False),
    )


def real_rows(
    dataset: str, root: str | os.PathLike[str] | None = None, limit: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The labelled annotations of a real data set by split; test where its file is there.

    Raises:
        ValueError: unknown data set. FileNotFoundError: training or validation annotations are missing.
    """
    if dataset not in REAL:
        raise ValueError(f"data: expected data set {', '.join(REAL)}; got {dataset!r}")
    rows: dict[str, list[dict[str, Any]]] = {}
    for split in SPLITS:
        if split not in ANNOTATIONS[dataset]:
            if split == "test":
                continue
            rows["val"] = [row for row in rows["train"] if _held_out(row["vid"])]
            rows["train"] = [row for row in rows["train"] if not _held_out(row["vid"])]
        elif (path := data_root(root) / ANNOTATIONS[dataset][split]).exists():
            rows[split] = read_annotations(path)
        elif split != "test":
            raise FileNotFoundError(
                f"{path} is missing; get it with `vtg data fetch {dataset}` or point VTG_DATA_ROOT at "
                "your copy"
            )
    return {split: part[:limit] for split, part in rows.items()}


def _held_out(vid: str) -> bool:
    return zlib.crc32(vid.encode()) % 10 == 0
