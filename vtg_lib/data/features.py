"""Feature sets: what one is, reading the public layouts, and the memory-mapped cache that training reads.

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

The cache is `data.bin`, all videos one after the other with the levels inside the clip (`[sum T, K, D]`), and
`index.json`, the spec with ids, lengths and a SHA-256 per video. A conversion works in `<cache>.partial`
beside it: killed, it goes on where it stopped; complete, it is renamed into place, so a cache that exists is
whole.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vtg_lib.data.forms import check
from vtg_lib.files import locked

FORMAT = 1
EPSILON = 1e-5  # added to norms, as the public Moment-DETR loader does


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
        array = _load(path, spec.key)
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


def _load(path: Path, key: str | None) -> np.ndarray:
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


class FeatureCache:
    """A converted feature set: one memory-mapped array, opened once.

    Attributes:
        spec: what the features are.
        ids: videos or queries in storage order; lengths: `[V]` items of each.
        fingerprint: 16 hex digits over spec, ids and the bytes of every item.
    """

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder = folder
        self.spec = spec_of(index["spec"], str(folder / "index.json"))
        self.ids: list[str] = list(index["ids"])
        self.lengths = np.asarray(index["lengths"], np.int64)
        self.digests: list[str] = list(index["sha256"])
        self.fingerprint: str = index["fingerprint"]
        self._row = {item: i for i, item in enumerate(self.ids)}
        self._start = np.concatenate([[0], np.cumsum(self.lengths)])
        self._data = np.memmap(
            folder / "data.bin",
            self.spec.dtype,
            "r",
            shape=(int(self._start[-1]), self.spec.levels, self.spec.dims),
        )

    @classmethod
    def open(cls, folder: str | Path) -> FeatureCache:
        """Opens a cache that `convert` wrote.

        Raises:
            FeatureError: there is none, it is of another format, or its data file has another size than its
                index says.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / "index.json").read_text())
            size = (folder / "data.bin").stat().st_size
        except (OSError, ValueError) as error:
            raise FeatureError(
                f"{folder}: expected a feature cache, got {error}. Fix: convert the features again."
            ) from None
        if index.get("format") != FORMAT:
            raise FeatureError(
                f"{folder}: expected cache format {FORMAT}, got {index.get('format')}. Fix: delete it "
                "and convert again."
            )
        spec = spec_of(index["spec"], str(folder / "index.json"))
        wanted = sum(index["lengths"]) * spec.levels * spec.dims * np.dtype(spec.dtype).itemsize
        if size != wanted:
            raise FeatureError(
                f"{folder / 'data.bin'}: expected {wanted:,} bytes, got {size:,}. Fix: delete the folder "
                "and convert again."
            )
        return cls(folder, index)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: str) -> np.ndarray:
        """`[T, K, D]` of one video or query, a view of the file."""
        row = self.rows([item])[0]
        return self._data[self._start[row] : self._start[row + 1]]

    def rows(self, ids: Sequence[Any]) -> np.ndarray:
        """Storage rows of ids.

        Raises:
            FeatureError: some are not in the cache.
        """
        missing = [i for i in ids if str(i) not in self._row]
        if missing:
            raise FeatureError(
                f"{self.folder}: expected features for {len(ids)} {self.spec.kind} ids, got none for "
                f"{len(missing)}, the first {missing[0]!r}. "
                "Fix: convert again with all ids, or use the annotations that belong to this set."
            )
        return np.array([self._row[str(i)] for i in ids], np.int64)

    def gather(self, ids: Sequence[Any], max_length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Several items padded with zeros.

        Args:
            ids: videos or queries, repeats allowed.
            max_length: longer items are cut after this many clips or words.

        Returns:
            `[N, T, D]`, or `[N, K, T, D]` with more than one level, of the cache's dtype, T the longest kept;
            lengths `[N]` int64.
        """
        rows = self.rows(ids)
        lengths = self.lengths[rows] if max_length is None else np.minimum(self.lengths[rows], max_length)
        width = int(lengths.max(initial=0))
        position = np.arange(width)
        valid = position < lengths[:, None]
        source = np.where(valid, self._start[rows, None] + position, 0)
        padded = self._data[source]
        padded[~valid] = 0
        padded = padded[:, :, 0] if self.spec.levels == 1 else padded.swapaxes(1, 2)
        return padded, lengths

    def verify(self) -> None:
        """Hashes every item again.

        Raises:
            FeatureError: an item's bytes are not those that were converted.
        """
        for row, item in enumerate(self.ids):
            if _digest(self._data[self._start[row] : self._start[row + 1]]) != self.digests[row]:
                raise FeatureError(
                    f"{self.folder / 'data.bin'}: {item!r} changed since conversion. Fix: delete the "
                    "folder and convert again."
                )


def convert(
    source: str | Path,
    cache: str | Path,
    ids: Sequence[Any],
    spec: FeatureSpec,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> FeatureCache:
    """Converts a folder of per-video files into a cache, once; returns an existing one that fits.

    Args:
        source: folder with the files that `spec.files` names.
        cache: folder to write.
        ids: videos or queries to convert; repeats are dropped.
        spec: what the features are.
        overwrite: replace a cache of another spec or with fewer ids.
        progress: show a bar.

    Raises:
        FeatureError: a source file is missing or bad, a different cache is there already, or the disk is full
            (the temporary folder is removed then).
    """
    source, cache = Path(source), Path(cache)
    names = list(dict.fromkeys(str(i) for i in ids))
    if not names:
        raise FeatureError(f"{cache}: expected ids to convert, got none. Fix: read the annotations first.")
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(cache.name + ".partial")
    with locked(cache):
        if (cache / "index.json").exists() and (found := _fitting(cache, names, spec, overwrite)) is not None:
            return found
        missing = [p for name in names for p in spec.paths(source, name) if not p.exists()]
        if missing:
            raise FeatureError(
                f"{missing[0]}: expected a feature file for each of {len(names)} ids, got none for "
                f"{len(missing)} of them. "
                f"Fix: fetch {spec.name} (`vtg data fetch`), or correct the source folder."
            )
        try:
            _write(source, partial, names, spec, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(partial, ignore_errors=True)
                raise FeatureError(
                    f"{partial}: no space left on the device while converting {spec.name}; the partial "
                    "cache was removed. Fix: free space, or choose another cache folder."
                ) from None
            raise
        if cache.exists():
            shutil.rmtree(cache)
        partial.replace(cache)
    return FeatureCache.open(cache)


def _fitting(cache: Path, names: Sequence[str], spec: FeatureSpec, overwrite: bool) -> FeatureCache | None:
    """The cache at `cache` if it serves; None if it may be replaced."""
    if overwrite:
        return None
    found = FeatureCache.open(cache)
    check_same(spec, found.spec, str(cache))
    found.rows(names)
    return found


def check_same(expected: FeatureSpec, got: FeatureSpec, where: str) -> None:
    """Raises `FeatureError` naming each fact in which two specs differ."""
    differ = [
        f.name for f in dataclasses.fields(FeatureSpec) if getattr(expected, f.name) != getattr(got, f.name)
    ]
    if differ:
        facts = "; ".join(
            f"{name}: expected {getattr(expected, name)!r}, got {getattr(got, name)!r}" for name in differ
        )
        raise FeatureError(
            f"{where}: another feature set. {facts}. Fix: use another cache folder, or overwrite this one."
        )


def _write(source: Path, partial: Path, names: Sequence[str], spec: FeatureSpec, progress: bool) -> None:
    """Converts into `partial`, going on after the items that its journal lists."""
    from tqdm.auto import tqdm

    header = {"format": FORMAT, "spec": dataclasses.asdict(spec), "source": str(source), "ids": list(names)}
    header = json.loads(json.dumps(header))
    journal, data = partial / "journal.jsonl", partial / "data.bin"
    done = _resume(journal, header, data, spec)
    if done is None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        journal.write_text(json.dumps(header) + "\n")
        data.touch()
        done = []
    with data.open("ab") as store, journal.open("a") as log:
        for name in tqdm(
            names[len(done) :], initial=len(done), total=len(names), desc=spec.name, disable=not progress
        ):
            array = np.ascontiguousarray(read_source(source, name, spec).astype(spec.dtype))
            store.write(array.tobytes())
            store.flush()
            done.append((len(array), _digest(array)))
            log.write(json.dumps(done[-1]) + "\n")
            log.flush()
        os.fsync(store.fileno())
    lengths, digests = [n for n, _ in done], [d for _, d in done]
    parts = json.dumps([header["spec"], list(names), lengths, digests], sort_keys=True)
    index = header | {
        "lengths": lengths,
        "sha256": digests,
        "fingerprint": hashlib.sha256(parts.encode()).hexdigest()[:16],
    }
    (partial / "index.json").write_text(json.dumps(index))
    journal.unlink()


def _resume(
    journal: Path, header: Mapping[str, Any], data: Path, spec: FeatureSpec
) -> list[tuple[int, str]] | None:
    """`(length, hash)` of the items that a killed conversion finished, with `data` cut after the last; None
    to start over.
    """
    try:
        first, *rest = journal.read_text().splitlines()
        if json.loads(first) != header:
            return None
        size = data.stat().st_size
    except (OSError, ValueError):
        return None
    unit = spec.levels * spec.dims * np.dtype(spec.dtype).itemsize
    done: list[tuple[int, str]] = []
    end = 0
    for line in rest:
        try:
            length, digest = json.loads(line)
        except ValueError:  # torn by the kill
            break
        if end + length * unit > size:
            break
        end += length * unit
        done.append((length, digest))
    os.truncate(data, end)
    kept = [json.dumps(header)] + [json.dumps(entry) for entry in done]
    journal.write_text("\n".join(kept) + "\n")
    return done


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
