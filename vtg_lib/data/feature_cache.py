"""The memory-mapped cache of a feature set that training reads, and its conversion.

A cache is `data.bin`, all videos one after the other with the levels inside the clip (`[sum T, K, D]`), and
`index.json`, the spec with ids, lengths, a SHA-256 per video, and the size and time of each file it was made
of. A conversion works in `<cache>.partial` beside it: killed, it goes on where it stopped; complete, it is
renamed into place, so a cache that exists is whole. Files that changed since, or that a cache lacks, are
converted when it is asked for again; the rest is taken over.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.data.features import FeatureError, FeatureSpec, read_source, spec_of
from vtg_lib.files import locked

FORMAT = 1
Stamp = list[list[int]]  # size in bytes and time in nanoseconds of each file of an item


class FeatureWarning(UserWarning):
    """A cache was brought up to date, or had to go elsewhere."""


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
        self.stamps: list[Stamp] = index.get("stamps", [[]] * len(self.ids))
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
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
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

    def changed(self, source: Path) -> list[str]:
        """Ids whose files in `source` are not those they were made of; files that are gone do not count."""
        found = []
        for item, known in zip(self.ids, self.stamps, strict=True):
            now = stamp(self.spec, source, item)
            if now is not None and now != known:
                found.append(item)
        return found

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


def stamp(spec: FeatureSpec, source: Path, item: str) -> Stamp | None:
    """Of an item's files as they are now; None if one is not there."""
    try:
        found = [path.stat() for path in spec.paths(source, item)]
    except OSError:
        return None
    return [[status.st_size, status.st_mtime_ns] for status in found]


def convert(
    source: str | Path,
    cache: str | Path,
    ids: Sequence[Any],
    spec: FeatureSpec,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> FeatureCache:
    """Converts a folder of per-video files into a cache; what an existing cache has is taken over.

    Args:
        source: folder with the files that `spec.files` names.
        cache: folder to write.
        ids: videos or queries to convert; repeats are dropped.
        spec: what the features are.
        overwrite: replace a cache of another spec, or a damaged one.
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
        old = _old(cache, spec, overwrite)
        kept: set[str] = set()
        if old is not None:
            stale = old.changed(source)
            kept = set(old.ids) - set(stale)
            lacking = [name for name in names if name not in set(old.ids)]
            if not stale and not lacking:
                return old
            told = [
                f"{len(found)} {what} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
                for found, what in ((stale, "changed since it was made"), (lacking, "not in it"))
                if found
            ]
            names = list(dict.fromkeys([*old.ids, *names]))
            text = f"{cache}: of {len(names)} items {' and '.join(told)}: converted now"
            warnings.warn(text, FeatureWarning, stacklevel=2)
        paths = [path for name in names if name not in kept for path in spec.paths(source, name)]
        missing = [path for path in paths if not path.exists()]
        if missing:
            raise FeatureError(
                f"{missing[0]}: expected a feature file for each of {len(names)} ids, got none for "
                f"{len(missing)} of them; the folder has {_some_of(missing[0].parent)}. "
                f"Fix: fetch {spec.name} (`vtg data fetch`), or correct the source folder, or leave those "
                "out (--data … allow_missing=true)."
            )
        try:
            _write(source, partial, names, spec, progress, old, kept)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(partial, ignore_errors=True)
                raise FeatureError(
                    f"{partial}: no space left on the device while converting {spec.name}; the partial "
                    "cache was removed. Fix: free space, or choose another cache folder."
                ) from None
            raise
        del old  # which maps the file
        if cache.exists():
            shutil.rmtree(cache)
        partial.replace(cache)
    return FeatureCache.open(cache)


def _some_of(folder: Path, most: int = 3) -> str:
    """What a folder holds, for messages."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return f"{len(names)} files, such as {', '.join(names[:most])}" if names else "no files"


def _old(cache: Path, spec: FeatureSpec, overwrite: bool) -> FeatureCache | None:
    """The cache at `cache`, if its items can be taken over."""
    if not (cache / "index.json").exists():
        return None
    try:
        found = FeatureCache.open(cache)
        check_same(spec, found.spec, str(cache))
    except FeatureError:
        if not overwrite:
            raise
        return None
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


def _write(
    source: Path,
    partial: Path,
    names: Sequence[str],
    spec: FeatureSpec,
    progress: bool,
    old: FeatureCache | None,
    kept: set[str],
) -> None:
    """Converts into `partial`, going on after the items in its journal; those of `kept` are `old`'s."""
    from tqdm.auto import tqdm

    header = {"format": FORMAT, "spec": dataclasses.asdict(spec), "source": str(source), "ids": list(names)}
    header = json.loads(json.dumps(header))
    journal, data = partial / "journal.jsonl", partial / "data.bin"
    done = _resume(journal, header, data, source, spec)
    if done is None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        journal.write_text(json.dumps(header) + "\n", encoding="utf-8")
        data.touch()
        done = []
    with data.open("ab") as store, journal.open("a", encoding="utf-8") as log:
        for name in tqdm(
            names[len(done) :], initial=len(done), total=len(names), desc=spec.name, disable=not progress
        ):
            if old is not None and name in kept:
                array, made = np.array(old[name]), old.stamps[int(old.rows([name])[0])]
            else:
                made = stamp(spec, source, name) or []  # before the file is read
                array = np.ascontiguousarray(read_source(source, name, spec).astype(spec.dtype))
            store.write(array.tobytes())
            store.flush()
            done.append((len(array), _digest(array), made))
            log.write(json.dumps(done[-1]) + "\n")
            log.flush()
        os.fsync(store.fileno())
    lengths, digests, stamps = ([entry[n] for entry in done] for n in range(3))
    parts = json.dumps([header["spec"], list(names), lengths, digests], sort_keys=True)
    index = header | {
        "lengths": lengths,
        "sha256": digests,
        "stamps": stamps,
        "fingerprint": hashlib.sha256(parts.encode()).hexdigest()[:16],
    }
    (partial / "index.json").write_text(json.dumps(index), encoding="utf-8")
    journal.unlink()


def _resume(
    journal: Path, header: Mapping[str, Any], data: Path, source: Path, spec: FeatureSpec
) -> list[tuple[int, str, Stamp]] | None:
    """`(length, hash, stamp)` of the items that a killed conversion finished, with `data` cut after the last
    whose files are as they were; None to start over.
    """
    try:
        first, *rest = journal.read_text(encoding="utf-8").splitlines()
        if json.loads(first) != header:
            return None
        size = data.stat().st_size
    except (OSError, ValueError):
        return None
    unit = spec.levels * spec.dims * np.dtype(spec.dtype).itemsize
    done: list[tuple[int, str, Stamp]] = []
    end = 0
    for line, name in zip(rest, header["ids"], strict=False):
        try:
            length, digest, made = json.loads(line)
        except ValueError:  # torn by the kill
            break
        if end + length * unit > size or stamp(spec, source, name) not in (None, made):
            break
        end += length * unit
        done.append((length, digest, made))
    os.truncate(data, end)
    kept = [json.dumps(header)] + [json.dumps(entry) for entry in done]
    journal.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return done


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
