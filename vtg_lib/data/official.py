"""From annotations and feature caches to the padded arrays of `GroundingData`."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vtg_lib.data.annotations import SHOWN
from vtg_lib.data.batches import GroundingData, fingerprint, targets
from vtg_lib.data.datasets import DATASETS
from vtg_lib.data.feature_cache import FeatureCache, FeatureWarning, check_same, convert
from vtg_lib.data.features import CLIPS_OFF, LENGTH_TOLERANCE, FeatureError, FeatureSpec
from vtg_lib.data.manifests import ManifestError, array_folder, feature_spec, get
from vtg_lib.files import cache_root as user_cache


def official_arrays(
    annotations: Sequence[Mapping[str, Any]],
    video_caches: Sequence[FeatureCache],
    text_cache: FeatureCache,
    max_clips: int | None = None,
    max_words: int | None = None,
    duration_unit: float | None = 1.0,
) -> dict[str, np.ndarray]:
    """Everything that the rows of a split need from the caches, each video once.

    Several video sets are cut to the shorter one per video and joined along the channels, each normalised on
    its own, as in Moment-DETR (SlowFast 2304 + CLIP 512 = 2816).

    Args:
        annotations: rows in the QVHighlights layout.
        video_caches: one or more sets of the same clip length and number of levels.
        text_cache: word features by `qid`.
        max_clips: T at most; longer videos are cut.
        max_words: L at most.
        duration_unit: seconds per unit of `duration` (`datasets.Dataset`); None where clips have no fixed
            length, which leaves the clip length unchecked.

    Returns:
        `video` `[V, T, D]` or `[V, K, T, D]`, `video_length` `[V]`, `video_index` `[N]` (row -> video),
        `text` `[N, L, D]` or `[N, K, L, D]`, `text_length` `[N]`; features in the caches' dtype, the rest
        int64.

    Raises:
        FeatureError: the sets do not belong together, a video or query is missing, or the clip length does
            not fit the durations.
    """
    if not annotations or not video_caches:
        raise FeatureError(
            "expected annotations and at least one video cache, got none. Fix: read both first."
        )
    _check_together(video_caches, text_cache)
    durations = {row["vid"]: row["duration"] for row in annotations}
    videos = list(durations)
    parts, lengths = zip(*(cache.gather(videos, max_clips) for cache in video_caches), strict=True)
    length = np.minimum.reduce(lengths)
    if duration_unit is not None:
        for cache in video_caches:
            _check_clip_length(cache, videos, duration_unit * np.array([durations[v] for v in videos]))
    width = int(length.max())
    video = np.concatenate([part[..., :width, :] for part in parts], -1)
    padding = np.arange(width) >= length[:, None]
    if video.ndim == 3:
        video[padding] = 0
    else:
        video.swapaxes(1, 2)[padding] = 0
    text, text_length = text_cache.gather([row["qid"] for row in annotations], max_words)
    row_of = {v: i for i, v in enumerate(videos)}
    index = np.array([row_of[row["vid"]] for row in annotations], np.int64)
    return {
        "video": video,
        "video_length": length,
        "video_index": index,
        "text": text,
        "text_length": text_length,
    }


def official_data(
    dataset: str,
    split_rows: Mapping[str, Sequence[Mapping[str, Any]]],
    feature_set: str,
    video_arrays: Sequence[str],
    text_array: str,
    data_root: str | Path,
    *,
    cache_root: str | Path | None = None,
    max_clips: int | None = None,
    max_words: int | None = None,
    allow_missing: bool = False,
    progress: bool = True,
) -> dict[str, GroundingData]:
    """Splits with the features of a set that `vtg data fetch` brought, converted on first use.

    Args:
        dataset: one of `datasets.DATASETS`.
        split_rows: split -> annotations.
        feature_set: name of a set in `data_manifests/`, e.g. "qvhighlights_slowfast_clip".
        video_arrays: its arrays to join along the channels, e.g. ("slowfast", "clip").
        text_array: its words, e.g. "clip_text".
        data_root: where the set lies.
        cache_root: where caches go; if not given `features/cache` under `data_root`, or below the user's
            cache folder (`VTG_CACHE`) where that cannot be written.
        max_clips, max_words: longer videos and queries are cut.
        allow_missing: see `featured_data`.

    Raises:
        ManifestError: no such set or array, or its folder is not there.
        FeatureError: see `features.convert` and `official_arrays`.
    """
    data = get(feature_set)
    root = Path(cache_root) if cache_root is not None else cache_folder(Path(data_root))

    def place(array: str) -> Place:
        target = root / feature_set / array
        try:
            folder = array_folder(data, array, data_root)
        except ManifestError:
            if not (target / "index.json").exists():
                raise
            folder = None  # the files are gone, what was made of them is not
        return Place(feature_spec(data, array), folder, target)

    return featured_data(
        split_rows,
        [place(array) for array in video_arrays],
        place(text_array),
        {"kind": "official", "dataset": dataset, "feature_set": feature_set},
        unit=DATASETS[dataset].duration_unit if DATASETS[dataset].regular else None,
        max_clips=max_clips,
        max_words=max_words,
        allow_missing=allow_missing,
        progress=progress,
    )


class Place(NamedTuple):
    """Features: what they are, their folder (None if it is gone), and where their cache is."""

    spec: FeatureSpec
    folder: Path | None
    cache: Path


def featured_data(
    split_rows: Mapping[str, Sequence[Mapping[str, Any]]],
    videos: Sequence[Place],
    text: Place,
    facts: Mapping[str, Any],
    *,
    unit: float | None = 1.0,
    max_clips: int | None = None,
    max_words: int | None = None,
    allow_missing: bool = False,
    progress: bool = True,
) -> dict[str, GroundingData]:
    """Splits with features, converted on first use and where their files changed.

    Args:
        facts: of the data set; unit: seconds per unit of `duration`, see `official_arrays`.
        allow_missing: leave out queries without a feature file, and say how many; else they are an error.

    Raises:
        FeatureError: see `feature_cache.convert` and `official_arrays`.
    """
    if allow_missing:
        split_rows = {split: _present(part, split, [*videos, text]) for split, part in split_rows.items()}
    rows = [row for part in split_rows.values() for row in part]
    ids = {"video": [row["vid"] for row in rows], "text": [row["qid"] for row in rows]}

    def cache_of(place: Place) -> FeatureCache:
        wanted = ids[place.spec.kind]
        if place.folder is not None:
            return convert(place.folder, place.cache, wanted, place.spec, overwrite=True, progress=progress)
        found = FeatureCache.open(place.cache)
        check_same(place.spec, found.spec, str(place.cache))
        found.rows(wanted)
        return found

    caches, words = [cache_of(place) for place in videos], cache_of(text)
    clip_length = caches[0].spec.clip_length
    assert clip_length is not None
    prints = {cache.spec.name: cache.fingerprint for cache in (*caches, words)}
    splits = {}
    for split, part in split_rows.items():
        arrays = official_arrays(part, caches, words, max_clips, max_words, unit)
        row_length = arrays["video_length"][arrays["video_index"]]
        part = _fitted(part, row_length, split)
        spans, count, saliency = targets(part, row_length, clip_length, arrays["video"].shape[-2])
        arrays |= {"spans": spans, "span_count": count, "saliency": saliency}
        splits[split] = GroundingData(
            annotations=[dict(row) for row in part],
            clip_length=clip_length,
            fingerprint=fingerprint(
                sorted(prints.items()), json.dumps(part, sort_keys=True), max_clips, max_words
            ),
            facts={**facts, "features": prints},
            **{name: torch.from_numpy(array) for name, array in arrays.items()},
        )
    return splits


def _fitted(rows: Sequence[Mapping[str, Any]], clips: np.ndarray, split: str) -> Sequence[Mapping[str, Any]]:
    """Rows whose labels end with the features, where these lack the last `CLIPS_OFF` clips or fewer: as in
    the public code, what no clip can be scored for does not count. Features past the last label stay.

    Raises:
        FeatureError: features of fewer clips than that.
    """
    lacking = [len(row.get("label") or ()) - int(count) for row, count in zip(rows, clips, strict=True)]
    far = [f"{row['vid']}: {n} clips" for row, n in zip(rows, lacking, strict=True) if n > CLIPS_OFF]
    if far:
        more = [f"… and {len(far) - SHOWN} more videos"] if len(far) > SHOWN else []
        told = "\n".join([*far[:SHOWN], *more])
        raise FeatureError(
            f"{split}: expected features of every labelled clip; lacking are of {told}. Fix: extract "
            "features on the labels' clips, or fetch these videos again."
        )
    if not (short := sum(n > 0 for n in lacking)):
        return rows
    text = f"{split}: labels of {short} of {len(rows)} videos are cut to their features"
    warnings.warn(f"{text}, by up to {max(lacking)} clips", FeatureWarning, stacklevel=3)
    return [
        {**row, "label": row["label"][:-n]} if n > 0 else row for row, n in zip(rows, lacking, strict=True)
    ]


def _present(
    rows: Sequence[Mapping[str, Any]], split: str, places: Sequence[Place]
) -> list[Mapping[str, Any]]:
    """The rows whose feature files are all there."""
    kept = [
        row
        for row in rows
        if all(
            path.exists()
            for place in places
            if place.folder is not None
            for path in place.spec.paths(
                place.folder, str(row["vid"] if place.spec.kind == "video" else row["qid"])
            )
        )
    ]
    if len(kept) < len(rows):
        text = (
            f"{split}: {len(rows) - len(kept)} of {len(rows)} queries are left out, as features are missing"
        )
        warnings.warn(text, FeatureWarning, stacklevel=2)
    if not kept:
        raise FeatureError(f"{split}: expected features, got none for any query. Fix: check the folders.")
    return kept


def cache_folder(data_root: Path) -> Path:
    """Where the caches of a data root go."""
    folder = data_root / "features" / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason = "it cannot be written"
    except OSError as error:
        reason = str(error.strerror or error)
    key = hashlib.sha256(str(data_root.resolve()).encode()).hexdigest()[:12]
    other = user_cache() / "features" / key
    text = f"{folder}: {reason}; converted features go to {other} (VTG_CACHE moves it)"
    warnings.warn(text, FeatureWarning, stacklevel=2)
    return other


def _check_together(video_caches: Sequence[FeatureCache], text_cache: FeatureCache) -> None:
    first = video_caches[0].spec
    for cache in (*video_caches, text_cache):
        wanted = "text" if cache is text_cache else "video"
        if cache.spec.kind != wanted:
            raise FeatureError(
                f"{cache.folder}: expected {wanted} features, got {cache.spec.kind}. Fix: swap the caches."
            )
    for cache in video_caches[1:]:
        for fact in ("clip_length", "levels"):
            expected, got = getattr(first, fact), getattr(cache.spec, fact)
            if expected != got:
                raise FeatureError(
                    f"{cache.folder}: {fact}: expected {expected} as in {first.name}, got {got} in "
                    f"{cache.spec.name}. Fix: use feature sets that were extracted together."
                )
    names = [cache.spec.name for cache in video_caches]
    if len(set(names)) != len(names):
        raise FeatureError(f"expected different video sets, got {names}. Fix: name each set once.")


def _check_clip_length(cache: FeatureCache, videos: Sequence[str], durations: np.ndarray) -> None:
    length = cache.spec.clip_length
    assert length is not None
    clips = cache.lengths[cache.rows(videos)]
    ratio = float(np.median(clips * length / durations))
    if abs(ratio - 1) > LENGTH_TOLERANCE:
        raise FeatureError(
            f"{cache.folder}: clip_length {length:g} s: expected clips that cover the videos, got "
            f"{ratio:.2f} of their duration (median). Fix: these are features of about "
            f"{length / ratio:.3g} s a clip; correct the manifest or take the other set."
        )
    expected = durations / length
    off = np.flatnonzero(np.abs(clips - expected) > np.maximum(CLIPS_OFF, LENGTH_TOLERANCE * expected))
    if off.size:
        lines = [
            f"{videos[n]}: expected about {expected[n]:.0f} clips of {length:g} s for {durations[n]:g} s, "
            f"got {clips[n]}"
            for n in off[:SHOWN]
        ]
        more = [f"… and {off.size - SHOWN} more videos"] if off.size > SHOWN else []
        fix = "Fix: fetch or extract these videos again, or correct their duration"
        raise FeatureError(f"{cache.folder}: " + "\n".join([*lines, *more, fix]) + ".")
