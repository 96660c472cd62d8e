"""What loading costs: the public way, a file a sample, and ours, from a cache."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtg_lib.data.batches import Batch, GroundingData, targets
from vtg_lib.data.feature_cache import convert
from vtg_lib.data.features import EPSILON, FeatureSpec
from vtg_lib.data.official import official_arrays


def loading_benchmark(
    folder: str | Path | None = None,
    *,
    videos: int = 64,
    batch: int = 32,
    repeats: int = 5,
    clips: int = 75,
    words: int = 20,
) -> dict[str, float]:
    """Cost per sample of the public way, three `.npz` files per sample, normalise, join and pad, and of
    `GroundingData.batch`.

    The public way is charged for features only, ours for masks and targets too.

    Args:
        folder: where the synthetic files go; a temporary folder if not given.
        videos: number of videos and queries. batch: samples per batch. repeats: passes over all of them, the
            fastest counts.
        clips: per video, of SlowFast (2304) and CLIP (512) features. words: per query, of 512.

    Returns:
        `npz_ms` and `cache_ms` per sample, their ratio `speedup`, `convert_ms` per sample (paid once), and
        the largest difference between the two videos, `max_difference` (the cache is float16).
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return loading_benchmark(
                temporary, videos=videos, batch=batch, repeats=repeats, clips=clips, words=words
            )
    folder = Path(folder)
    rng = np.random.default_rng(0)
    specs = [
        FeatureSpec(name="slowfast", kind="video", extractor="synthetic", dims=2304, clip_length=2.0),
        FeatureSpec(name="clip", kind="video", extractor="synthetic", dims=512, clip_length=2.0),
        FeatureSpec(
            name="clip_text",
            kind="text",
            extractor="synthetic",
            dims=512,
            clip_length=None,
            files=("qid{id}.npz",),
            key="last_hidden_state",
        ),
    ]
    names = [str(i) for i in range(videos)]
    for spec in specs:
        (folder / spec.name).mkdir(parents=True, exist_ok=True)
        for name in names:
            array = rng.standard_normal((clips if spec.kind == "video" else words, spec.dims), np.float32)
            content: dict[str, Any] = {spec.key or "features": array}
            np.savez(spec.paths(folder / spec.name, name)[0], **content)
    started = time.perf_counter()
    caches = [
        convert(folder / spec.name, folder / "cache" / spec.name, names, spec, progress=False)
        for spec in specs
    ]
    converted = time.perf_counter() - started
    rows = [
        {"qid": name, "vid": name, "duration": 2.0 * clips, "relevant_windows": [[0.0, 10.0]]}
        for name in names
    ]
    arrays = official_arrays(rows, caches[:2], caches[2])
    spans, count, saliency = targets(rows, arrays["video_length"], 2.0, clips)
    tensors: dict[str, Any] = {
        name: torch.from_numpy(array)
        for name, array in (arrays | {"spans": spans, "span_count": count, "saliency": saliency}).items()
    }
    data = GroundingData(annotations=rows, clip_length=2.0, fingerprint="synthetic", **tensors)
    order = rng.permutation(videos)

    def from_npz(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        samples = [_npz_sample(folder, specs, names[i]) for i in index]
        return _pad([v for v, _ in samples]), _pad([t for _, t in samples])

    def from_cache(index: np.ndarray) -> Batch:
        return data.batch(torch.from_numpy(index))

    batches = [order[start : start + batch] for start in range(0, videos, batch)]
    slow, fast = _fastest(from_npz, batches, repeats), _fastest(from_cache, batches, repeats)
    difference = max(
        float(np.abs(from_npz(index)[0] - from_cache(index).video.numpy()).max()) for index in batches[:2]
    )
    return {
        "npz_ms": 1e3 * slow / videos,
        "cache_ms": 1e3 * fast / videos,
        "speedup": slow / fast,
        "convert_ms": 1e3 * converted / videos,
        "max_difference": difference,
    }


def _npz_sample(folder: Path, specs: Sequence[FeatureSpec], name: str) -> tuple[np.ndarray, np.ndarray]:
    """One sample the public way: open, read, normalise, join."""
    loaded = []
    for spec in specs:
        with np.load(spec.paths(folder / spec.name, name)[0]) as file:
            array = file[spec.key].astype(np.float32)
        loaded.append(array / (np.linalg.norm(array, axis=-1, keepdims=True) + EPSILON))
    length = min(len(loaded[0]), len(loaded[1]))
    return np.concatenate([loaded[0][:length], loaded[1][:length]], 1), loaded[2]


def _pad(arrays: Sequence[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(arrays), max(map(len, arrays)), arrays[0].shape[1]), np.float32)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = array
    return out


def _fastest(load: Callable[[np.ndarray], Any], batches: Sequence[np.ndarray], repeats: int) -> float:
    """Seconds of the fastest pass over all batches, each dropped after use as in training."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        for index in batches:
            load(index)
        times.append(time.perf_counter() - started)
    return min(times)
