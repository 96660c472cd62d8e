"""A folder of features that `vtg features` wrote, and reading it.

    features.yaml       what the features are, the file of each video and its length (`Manifest`)
    video/VID.npz       `features` [T, D] float16, one row a clip; `source`, what it was made of
    text/QID.npz        `last_hidden_state` [L, D] float16, one row a token; `query`, the sentence
    queries.jsonl       rows {qid, query, vid, duration}: the sentences to look for, in QVHighlights' layout

The two folders have the layout of the public sets, so that `vtg data add` and `vtg predict` read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vtg_lib.data.annotations import read_annotations
from vtg_lib.data.datasets import Dataset
from vtg_lib.data.extraction.encode import EncoderFacts
from vtg_lib.data.features import FeatureError, FeatureSpec
from vtg_lib.data.forms import check
from vtg_lib.files import atomic_write

if TYPE_CHECKING:
    from vtg_lib.data.batches import GroundingData

FORMAT = 1
MANIFEST, QUERIES, CACHE = "features.yaml", "queries.jsonl", "cache"
VIDEO, TEXT = "video", "text"  # folders
FORM = Dataset(name="queries", labels=("relevant_windows",), known=frozenset({"repeated query"}))


@dataclass(frozen=True, kw_only=True)
class VideoEntry:
    """A video as the manifest lists it.

    Attributes:
        file: where it lay; duration: seconds; clips: how many; sha256: of their features.
    """

    file: str
    duration: float
    clips: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder of features is.

    Attributes:
        format: of this file.
        encoder: what made the features.
        frame: which frame stands for a clip.
        clip_length: seconds.
        arrays: the fields of a `FeatureSpec` each, and `folder`, as in `data_manifests/`.
        videos: by vid.
        fingerprint: 16 hex digits over extractor, clip length and the features of all videos; "" until the
            first run has ended.
    """

    format: int
    encoder: EncoderFacts
    clip_length: float
    arrays: tuple[dict[str, Any], ...]
    frame: str = "the last before the middle of the clip"
    videos: Mapping[str, VideoEntry]
    fingerprint: str = ""

    def spec(self, kind: str) -> FeatureSpec:
        """What the files of "video" or "text" are."""
        fields = next(array for array in self.arrays if array["kind"] == kind)
        return check(FeatureSpec, {key: value for key, value in fields.items() if key != "folder"}, kind)

    def with_videos(self, videos: Mapping[str, VideoEntry]) -> Manifest:
        """The same with other videos, and the fingerprint that follows."""
        hashes = {vid: entry.sha256 for vid, entry in videos.items()}
        parts = json.dumps([self.encoder.extractor, self.clip_length, hashes], sort_keys=True)
        printed = hashlib.sha256(parts.encode()).hexdigest()[:16]
        return replace(self, videos=dict(sorted(videos.items())), fingerprint=printed)


def manifest_of(encoder: EncoderFacts, clip_length: float) -> Manifest:
    """The manifest of a new folder."""
    shared = {"extractor": encoder.extractor, "files": ["{id}.npz"], "normalise": "l2", "dtype": "float16"}
    video = {"name": "clip", "kind": "video", "folder": VIDEO, "dims": encoder.video_dim}
    text = {"name": "clip_text", "kind": "text", "folder": TEXT, "dims": encoder.text_dim}
    return Manifest(
        format=FORMAT,
        encoder=encoder,
        clip_length=clip_length,
        arrays=(
            {**video, "clip_length": clip_length, "key": "features", **shared},
            {**text, "clip_length": None, "key": "last_hidden_state", **shared},
        ),
        videos={},
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `features.yaml`, whole or not at all."""
    plain = json.loads(json.dumps(asdict(manifest)))
    content = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)
    atomic_write(folder / MANIFEST, content.encode())


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a folder, None if it has none.

    Raises:
        FeatureError: it cannot be read, or is of another format.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        found = check(Manifest, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (ValueError, yaml.YAMLError) as error:
        raise FeatureError(f"{error}. Fix: `vtg features` with another --out, or correct the file.") from None
    if found.format != FORMAT:
        raise FeatureError(
            f"{path}: expected format {FORMAT}, got {found.format}. Fix: extract the features again."
        )
    return found


def read_folder(folder: str | Path) -> tuple[GroundingData, Manifest]:
    """The queries of a folder with their features, as models take them.

    Raises:
        FeatureError: no such folder, no queries in it, or features that are missing or damaged.
        AnnotationError: a fault in `queries.jsonl`.
    """
    from vtg_lib.data.official import Place, featured_data

    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None or not (folder / QUERIES).is_file():
        lacking = MANIFEST if manifest is None else QUERIES
        raise FeatureError(
            f"{folder}: expected a folder that `vtg features` wrote, with sentences to look for, got none "
            f'with {lacking}. Fix: vtg features VIDEO --text "…" --out {folder}.'
        )
    rows = read_annotations(folder / QUERIES, FORM)
    video, text = (Place(manifest.spec(kind), folder / kind, folder / CACHE / kind) for kind in (VIDEO, TEXT))
    facts = {"kind": "folder", "dataset": folder.name}
    # a video shorter than a clip has one all the same: lengths need not fit durations
    split = featured_data({"queries": rows}, [video], text, facts, unit=None, progress=False)["queries"]
    return split, manifest
