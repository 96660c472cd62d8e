"""Data sets of one's own: annotations in any layout, features in folders of one's choice, known by a name.

`vtg data add` looks at the files and writes down what they are (`own/NAME.yaml` below the data root); from
then on `kind=own name=NAME` is that data set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from vtg_lib.data.annotations import read_annotations
from vtg_lib.data.datasets import Dataset
from vtg_lib.data.features import FeatureError, FeatureSpec, load_array
from vtg_lib.data.forms import check, unknown
from vtg_lib.files import UNEVEN, USUAL_CLIPS, atomic_write, data_root

if TYPE_CHECKING:
    import os

    from vtg_lib.data.batches import GroundingData

SPLITS = ("train", "val", "test")
FOLDER = "own"  # below the data root
PATTERNS = tuple(f"{name}{suffix}" for name in ("{id}", "qid{id}") for suffix in (".npz", ".npy", ".pt"))
KEYS = ("features", "last_hidden_state", "arr_0", "pooler_output")  # of an `.npz`, the first there is
SPLIT = "{split}"  # in a folder: features by split
LOOKED = 50  # videos whose features say how long a clip is
FORM = Dataset(name="own", labels=("relevant_windows",), partial=True, slack=1.0)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder of features, and what they are."""

    folder: str
    spec: FeatureSpec


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A data set as its YAML has it.

    Attributes:
        name: of the set; annotations: split -> file; durations: see `layouts.entries`.
        video: joined along the channels; text: of the words.
    """

    name: str
    annotations: Mapping[str, str]
    video: tuple[Source, ...]
    text: Source
    durations: str | None = None

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The annotations by split.

        Raises:
            AnnotationError: see `read_annotations`.
        """
        return {
            split: read_annotations(path, FORM, self.durations) for split, path in self.annotations.items()
        }


def path_of(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Where the YAML of a data set stands."""
    return data_root(root) / FOLDER / f"{name}.yaml"


def read_own(name: str, root: str | os.PathLike[str] | None = None) -> OwnData:
    """The data set of a name.

    Raises:
        ValueError: no such set, or a fault in its YAML.
    """
    path = path_of(name, root)
    if not path.exists():
        known = sorted(found.stem for found in path.parent.glob("*.yaml"))
        raise ValueError(f"data set {unknown(name, known)}; `vtg data add` makes one, in {path.parent}")
    return check(OwnData, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def add(
    name: str,
    annotations: Mapping[str, str | Path],
    video: Mapping[str, str | Path],
    text: str | Path,
    *,
    durations: str | Path | None = None,
    clip_length: float | None = None,
    normalise: bool = True,
    root: str | os.PathLike[str] | None = None,
) -> tuple[OwnData, dict[str, Any]]:
    """Look at the files of a data set, and write down what they are.

    Args:
        annotations: split -> file; train and val must be there.
        video: name -> folder, joined along the channels; text: folder of the words. `{split}` in a folder
            stands for the split.
        clip_length: seconds; by default what features and lengths agree on.
        normalise: divide every vector by its length, as the field's loaders do.

    Returns:
        The set, and counts: `queries`, `videos` by split, `video_dim`, `text_dim`, `clip_length`.

    Raises:
        ValueError: a name that is no file name, or splits that are missing.
        AnnotationError, FeatureError: what is wrong with which file.
    """
    if not name.isidentifier():
        raise ValueError(f"name: expected letters, digits and _, got {name!r}")
    if lacking := {"train", "val"} - set(annotations):
        raise ValueError(f"annotations: expected train=FILE and val=FILE, got none for {', '.join(lacking)}")
    if unknown_splits := sorted(set(annotations) - set(SPLITS)):
        raise ValueError(f"annotations: {unknown(unknown_splits[0], SPLITS)}")
    files = {split: str(Path(path).resolve()) for split, path in annotations.items()}
    lengths = None if durations is None else str(Path(durations).resolve())
    draft = OwnData(name=name, annotations=files, video=(), text=None, durations=lengths)  # type: ignore[arg-type]
    rows = draft.rows()
    ids = {split: [str(row["qid"]) for row in part] for split, part in rows.items()}
    durations_of = {
        split: {row["vid"]: float(row["duration"]) for row in part} for split, part in rows.items()
    }
    how = "l2" if normalise else "none"
    sources = [
        _source(folder, {"name": key, "kind": "video", "normalise": how}, durations_of, clip_length)
        for key, folder in video.items()
    ]
    texts = _source(text, {"name": "text", "kind": "text", "normalise": how}, ids, None)
    if SPLIT not in texts.folder:
        _check_once(ids)
    whole = dataclasses.replace(draft, video=tuple(sources), text=texts)
    content = yaml.safe_dump(_plain(whole), sort_keys=False, allow_unicode=True)
    atomic_write(path_of(name, root), content.encode())
    facts = {
        "queries": {split: len(part) for split, part in rows.items()},
        "videos": {split: len({row["vid"] for row in part}) for split, part in rows.items()},
        "video_dim": sum(source.spec.dims for source in sources),
        "text_dim": texts.spec.dims,
        "levels": sources[0].spec.levels,
        "clip_length": sources[0].spec.clip_length,
    }
    return whole, facts


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(value)))


def _check_once(ids: Mapping[str, Sequence[str]]) -> None:
    seen: dict[str, str] = {}
    for split, found in ids.items():
        for qid in found:
            if seen.setdefault(qid, split) != split:
                raise ValueError(
                    f"annotations: expected a qid in one split, got {qid} in {seen[qid]} and in {split}. "
                    f"Fix: number the queries through, or keep features by split: {SPLIT} in the folder"
                )


def _source(
    folder: str | Path,
    given: Mapping[str, Any],
    ids: Mapping[str, Mapping[str, float] | Sequence[str]],
    clip_length: float | None,
) -> Source:
    """What a folder holds; ids by split, those of videos with their seconds."""
    where = str(folder) if SPLIT in str(folder) else str(Path(folder).resolve())
    made = [_look(Path(where.format(split=split)), given, found, clip_length) for split, found in ids.items()]
    if any(spec != made[0] for spec in made):
        raise FeatureError(
            f"{where}: expected the same features in all splits, got {made}. Fix: correct one."
        )
    return Source(folder=str(Path.cwd() / where), spec=made[0])


def _look(
    folder: Path,
    given: Mapping[str, Any],
    known: Mapping[str, float] | Sequence[str],
    clip_length: float | None,
) -> FeatureSpec:
    ids = list(known)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "none"
        raise FeatureError(f"{folder}: expected a folder of features, got {got}. Fix: correct the path.")
    names = {path.name for path in folder.iterdir()}
    found = {pattern: sum(pattern.format(id=one) in names for one in ids) for pattern in PATTERNS}
    pattern = max(found, key=found.__getitem__)
    if found[pattern] < len(ids):
        missing = [one for one in dict.fromkeys(ids) if pattern.format(id=one) not in names]
        shown = ", ".join(sorted(names)[:3]) or "nothing"
        by = "vid" if isinstance(known, Mapping) else "qid"
        raise FeatureError(
            f"{folder}: expected a file for each of {len(set(ids))} {given['kind']} ids, such as "
            f"{pattern.format(id=missing[0])}, got none for {len(missing)}; the folder has {len(names)} "
            f"files, such as {shown}. Fix: name the files by {by}, or leave those rows out."
        )
    first = folder / pattern.format(id=ids[0])
    facts = {
        **given,
        "extractor": _extractor(folder),
        "files": (pattern,),
        **shape_facts(first),
        "clip_length": None,
    }
    if isinstance(known, Mapping):
        if clip_length is None:
            counts = {
                one: _count(folder / pattern.format(id=one), facts["key"], facts["axes"])
                for one in ids[:LOOKED]
            }
            clip_length = _agreed(folder, counts, known)
        facts["clip_length"] = clip_length
    return FeatureSpec(**facts)


def _extractor(folder: Path) -> str:
    """What made the features, where `vtg features` wrote them."""
    from vtg_lib.data.extraction.folder import read_manifest

    manifest = read_manifest(folder.parent)
    return manifest.encoder.extractor if manifest else "own"


def shape_facts(path: Path, keys: Sequence[str] = KEYS) -> dict[str, Any]:
    """`key`, `dims`, `axes` and `levels` of a `FeatureSpec`, from one of its files.

    Args:
        keys: of an `.npz`, the first there is.

    Raises:
        FeatureError: unreadable, or of no shape that features have.
    """
    key = None
    if path.suffix == ".npz":
        # of a file that cannot be read, `load_array` says what is wrong
        with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as arrays:
            key = next(
                (key for key in keys if key in arrays.files), arrays.files[0] if arrays.files else None
            )
    array = load_array(path, key)
    if array.ndim not in (1, 2, 3):
        raise FeatureError(f"{path}: expected [D], [T, D] or levels of it, got shape {list(array.shape)}.")
    axes = {1: "d", 2: "td"}.get(array.ndim) or ("ktd" if array.shape[0] <= array.shape[1] else "tkd")
    levels = 1 if array.ndim < 3 else array.shape[0 if axes == "ktd" else 1]
    return {"key": key, "dims": array.shape[-1], "axes": axes, "levels": levels}


def _count(path: Path, key: str | None, axes: str) -> int:
    return int(load_array(path, key).shape[1 if axes == "ktd" else 0])


def _agreed(folder: Path, counts: Mapping[str, int], durations: Mapping[str, float]) -> float:
    """Seconds of a clip, by the features of some videos."""
    middle = float(np.median([durations[one] / count for one, count in counts.items()]))
    usual = [length for length in USUAL_CLIPS if abs(length / middle - 1) < UNEVEN]
    if not usual:
        raise FeatureError(
            f"{folder}: clips of {middle:.3g} s (median over {len(counts)} videos), which is no usual "
            "length. Fix: --clip-length SECONDS, or correct the durations."
        )
    return usual[0]


def own_data(
    name: str, root: str | os.PathLike[str] | None = None, allow_missing: bool = False
) -> dict[str, GroundingData]:
    """The splits of a set; `allow_missing` as in `featured_data`.

    Raises:
        ValueError: see `read_own`. AnnotationError, FeatureError: its files are not what they were.
    """
    from vtg_lib.data.official import Place, cache_folder, featured_data

    data = read_own(name, root)
    caches, rows = cache_folder(data_root(root)) / FOLDER / name, data.rows()
    facts = {"kind": "own", "dataset": name}
    sources = (*data.video, data.text)
    if not any(SPLIT in one.folder for one in sources):
        places = [Place(one.spec, Path(one.folder), caches / one.spec.name) for one in sources]
        return featured_data(rows, places[:-1], places[-1], facts, allow_missing=allow_missing)
    splits: dict[str, GroundingData] = {}
    for split, part in rows.items():
        places = [
            Place(one.spec, Path(one.folder.format(split=split)), caches / split / one.spec.name)
            for one in sources
        ]
        splits |= featured_data({split: part}, places[:-1], places[-1], facts, allow_missing=allow_missing)
    return splits
