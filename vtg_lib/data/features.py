"""Feature sets: what one is, and reading the public layouts; `vtg_lib.data.feature_cache` converts them.

A `FeatureSpec` states what a set of files *is*: extractor, clip length, dimensions, levels, normalisation.
Mixing sets that differ in these is the most frequent cause of failed reproductions, so the spec travels with
the cache and is checked wherever sets meet.

Public layouts (`files` and `axes` of the spec; T clips or words, K levels, P tokens, D channels):

- one `.npz` a video, key `features` `[T, D]` (SlowFast, CLIP, ResNet); text `.npz` with key
`last_hidden_state` `[T,
  D]` or `pooler_output` `[D]`, named `qid{id}.npz` in QVHighlights and Charades-STA, `{id}.npz` elsewhere;
- `.npy` `[T, D]` (VGG), several per video joined along the channels (TVSum: `{id}_rgb.npy`, `{id}_opt.npy`);
- `.pt` tensors `[T, D]` (InternVideo2 video and text);
- several levels: `[K, T, D]` ("ktd"), `[T, K, D]` ("tkd"), or with spatial tokens `[T, K, P, D]` ("tkpd",
R2-Tuning's),
  which `tokens` reduces to one vector: "cls" takes token 0, "mean" averages the others. Level 0 is the
  shallowest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vtg_lib.data.forms import check

EPSILON = 1e-5  # added to norms, as the public Moment-DETR loader does
# Feature packs and annotations may differ by a clip or so per video; a wrong clip length differs by far more.
LENGTH_TOLERANCE = 0.25
CLIPS_OFF = 2  # that short videos may differ by


class FeatureError(ValueError):
    """Features that cannot be used; the message names the file, expected, got and the fix."""


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What a feature set is.

    Attributes:
        name: of the set, as manifests call it.
        kind: "video" (one item per clip) or "text" (one item per word).
        extractor: the frozen network.
        dims: channels D after joining `files`.
        clip_length: seconds per item; None for text.
        files: file names with `{id}`; more than one are joined along the channels.
        key: array within an `.npz`; None for `.npy` and `.pt`.
        axes: layout of one file, one of "d", "td", "ktd", "tkd", "tkpd".
        levels: K.
        tokens: "cls" or "mean" for axes "tkpd", else None.
        normalise: "l2" divides each vector by its norm + 1e-5; "none" keeps the extractor's scale.
        dtype: of the cache; "float16" halves it, and the public features carry no more than that.
    """

    name: str
    kind: Literal["video", "text"]
    extractor: str
    dims: int
    clip_length: float | None
    files: tuple[str, ...] = ("{id}.npz",)
    key: str | None = "features"
    axes: Literal["d", "td", "ktd", "tkd", "tkpd"] = "td"
    levels: int = 1
    tokens: Literal["cls", "mean"] | None = None
    normalise: Literal["l2", "none"] = "l2"
    dtype: Literal["float16", "float32"] = "float16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(self.files))
        rules = [
            ("levels", self.levels >= 1 and (self.levels == 1 or "k" in self.axes), "1, or axes with k"),
            ("tokens", bool(self.tokens) == ("p" in self.axes), "cls or mean exactly for axes tkpd"),
            (
                "clip_length",
                bool(self.clip_length) == (self.kind == "video"),
                "seconds for video, null for text",
            ),
            ("files", bool(self.files) and all("{id}" in f for f in self.files), "names with {id}"),
        ]
        for field, fine, wanted in rules:
            if not fine:
                raise FeatureError(f"{field}: expected {wanted}, got {getattr(self, field)!r}")

    def paths(self, folder: Path, item: str) -> list[Path]:
        """The files that hold one video or query."""
        return [folder / name.format(id=item) for name in self.files]


def spec_of(fields: Mapping[str, Any], where: str) -> FeatureSpec:
    """A feature set as a file describes it.

    Raises:
        FeatureError: `where`, field, expected and got.
    """
    try:
        return check(FeatureSpec, fields, where)
    except ValueError as error:
        raise FeatureError(f"{error}. Fix: correct the manifest.") from None


def read_source(folder: str | Path, item: str, spec: FeatureSpec) -> np.ndarray:
    """One video or query as `[T, K, D]` float32, pooled over tokens and normalised as the spec says.

    Raises:
        FeatureError: a file is missing, unreadable, of another shape than the spec says, empty, or has values
            that are not finite.
    """
    parts = []
    for path in spec.paths(Path(folder), item):
        array = load_array(path, spec.key)
        wanted = "[" + ", ".join(spec.axes.upper()) + "]"
        if array.ndim != len(spec.axes) or not all(array.shape):
            raise FeatureError(
                f"{path}: expected {wanted} with at least one item, got shape {list(array.shape)}. Fix: "
                "correct `axes` or fetch the file again."
            )
        if spec.axes == "d":
            array = array[None]
        array = array[:, None] if spec.axes in ("d", "td") else array
        array = array.swapaxes(0, 1) if spec.axes == "ktd" else array
        if spec.tokens is not None:
            array = array[:, :, 0] if spec.tokens == "cls" else array[:, :, 1:].mean(2, dtype=np.float32)
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            bad = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise FeatureError(
                f"{path}: expected finite numbers, got NaN or infinity at item {bad}. Fix: fetch or "
                "extract the file again."
            )
        parts.append(array)
    length = min(len(p) for p in parts)
    array = np.concatenate([p[:length] for p in parts], -1)
    if array.shape[1:] != (spec.levels, spec.dims):
        names = ", ".join(str(p) for p in spec.paths(Path(folder), item))
        raise FeatureError(
            f"{names}: expected {spec.levels} level(s) of {spec.dims} dimensions ({spec.name}, "
            f"{spec.extractor}), got {array.shape[1]} of "
            f"{array.shape[2]}. Fix: this is another feature set; point to the right folder or use its "
            "own manifest."
        )
    if spec.normalise == "l2":
        array = array / (np.linalg.norm(array, axis=-1, keepdims=True) + EPSILON)
    return array


def load_array(path: Path, key: str | None) -> np.ndarray:
    """The array in a feature file.

    Raises:
        FeatureError: none, or unreadable.
    """
    fetch = "fetch the feature set (`vtg data fetch`) or correct the folder"
    try:
        if path.suffix == ".pt":
            import torch

            return torch.load(path, map_location="cpu", weights_only=True).float().numpy()
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return loaded
        with loaded:
            if key not in loaded.files:
                raise FeatureError(
                    f"{path}: expected an array {key!r}, got {loaded.files}. Fix: correct `key` in the "
                    "manifest."
                )
            return loaded[key]
    except FileNotFoundError:
        raise FeatureError(f"{path}: expected a feature file, got none. Fix: {fetch}.") from None
    except FeatureError:
        raise
    except Exception as error:  # zipfile, pickle and numpy raise many kinds for a torn or foreign file
        raise FeatureError(
            f"{path}: expected a readable {path.suffix} file, got {type(error).__name__}: {error}. Fix: "
            f"{fetch}."
        ) from None
