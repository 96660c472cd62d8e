"""What there is to download: the typed reader of `data_manifests/*.yaml`.

Each file holds `sets`; a set is what one `vtg data fetch <name>` brings. Paths are relative to the data root.
Addresses are web pages as the READMEs give them (plain files, Google Drive files, Hugging Face data sets);
none is invented, and a set without a known address says so in `unknown`. A null `sha256` means that the hash
is recorded at the first download (`fetch.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vtg_lib.data.features import FeatureSpec
from vtg_lib.files import ROOT

KINDS = ("annotations", "predictions", "logs", "features", "vectors")


class ManifestError(ValueError):
    """A manifest that cannot be used, or a name that no manifest has."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file (or, for a Hugging Face data set, one folder) under the data root.

    Attributes:
        path: where it goes, relative to the data root.
        addresses: tried in order.
        size: bytes, None if unknown.
        sha256: 64 hex digits, None if nobody has downloaded it yet.
    """

    path: str
    addresses: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Unpack:
    """Archives (several: parts of one, in order) and the folder that their content goes to."""

    archives: tuple[str, ...]
    to: str


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One fetchable set.

    Attributes:
        name: what `vtg data fetch` takes.
        kind: one of `KINDS`.
        dataset: the annotations that it belongs to, None if to none.
        papers: chapters whose paper uses it.
        clip_length: seconds per clip, None where there is none.
        files: what to download; empty where no address is known.
        unpack: what to do with archives among `files`.
        folder: of a feature set.
        arrays: per array the fields of `FeatureSpec` and `folder`, a folder name somewhere under the set's
            folder.
        unknown: why there is no address, and what to do.
        hashes: why hashes are missing.
        stated_size: as the source says it, where the exact size is unknown.
    """

    name: str
    kind: str
    dataset: str | None
    title: str
    licence: str
    homepage: str
    layout: str
    clip_length: float | None
    files: tuple[FileEntry, ...]
    unpack: tuple[Unpack, ...] = ()
    arrays: tuple[Mapping[str, Any], ...] = ()
    papers: tuple[str, ...] = ()
    folder: str | None = None
    notes: str | None = None
    unknown: str | None = None
    hashes: str | None = None
    stated_size: str | None = None

    def entry(self, path: str) -> FileEntry:
        """The file with this target path."""
        return next(f for f in self.files if f.path == path)


def manifest_folder() -> Path:
    """`data_manifests/` of the checkout, or what `VTG_MANIFESTS` names.

    Raises:
        ManifestError: neither is there.
    """
    folder = Path(os.environ.get("VTG_MANIFESTS") or ROOT / "data_manifests")
    if not folder.is_dir():
        raise ManifestError(
            f"{folder}: expected the folder data_manifests, got none. Fix: run from a checkout, or set"
            " VTG_MANIFESTS to it."
        )
    return folder


def load_manifests(folder: str | Path | None = None) -> dict[str, DataSet]:
    """All sets by name, annotations first, then in order of file and place.

    Raises:
        ManifestError: a file is not valid; the message names file, set, field, expected and got.
    """
    return _load(Path(folder) if folder is not None else manifest_folder())


@cache
def _load(folder: Path) -> dict[str, DataSet]:
    found: dict[str, DataSet] = {}
    targets: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path}: expected YAML, got {error}. Fix: correct the file.") from None
        if not isinstance(content, Mapping) or not isinstance(content.get("sets"), list):
            raise ManifestError(
                f"{path}: expected a list under `sets`, got {type(content).__name__}. Fix: see another"
                " manifest."
            )
        for raw in content["sets"]:
            entry = _parse(path, raw)
            if entry.name in found:
                raise ManifestError(
                    f"{path}: name: expected one set called {entry.name!r}, got two. Fix: rename one."
                )
            for file in entry.files:
                if file.path in targets:
                    raise ManifestError(
                        f"{path}: {entry.name}: path: {file.path} is also a file of {targets[file.path]}."
                        " Fix: change one."
                    )
                targets[file.path] = entry.name
            found[entry.name] = entry
    if not found:
        raise ManifestError(
            f"{folder}: expected manifests, got no .yaml file. Fix: point VTG_MANIFESTS to data_manifests."
        )
    return dict(sorted(found.items(), key=lambda item: KINDS.index(item[1].kind)))


def get(name: str, folder: str | Path | None = None) -> DataSet:
    """One set by name.

    Raises:
        ManifestError: there is none.
    """
    sets = load_manifests(folder)
    if name not in sets:
        raise ManifestError(
            f"unknown set: expected one of {', '.join(sets)}, got {name!r}. Fix: `vtg data list` shows them."
        )
    return sets[name]


def feature_spec(data: DataSet, array: str) -> FeatureSpec:
    """What an array of a feature set is, for `features.convert`.

    Raises:
        ManifestError: the set has no such array, or its dimensions are unknown.
    """
    raw = next((a for a in data.arrays if a["name"] == array), None)
    if raw is None:
        raise ManifestError(
            f"{data.name}: expected one of the arrays {[a['name'] for a in data.arrays]}, got {array!r}. Fix:"
            " use one of these."
        )
    if raw["dims"] is None:
        raise ManifestError(
            f"{data.name}: {array}: dims are unknown. Fix: look at the files, and write dims into the"
            " manifest."
        )
    return FeatureSpec(
        **{k: v for k, v in raw.items() if k not in ("folder", "name")}, name=f"{data.name}/{array}"
    )


def array_folder(data: DataSet, array: str, data_root: str | Path) -> Path:
    """Where an array's files lie: the folder of that name under the set's folder, however deep the archive
    put it.

    Raises:
        ManifestError: there is no such folder, or several.
    """
    assert data.folder is not None
    base = Path(data_root) / data.folder
    name = next(a["folder"] for a in data.arrays if a["name"] == array)
    found = [base / name] if (base / name).is_dir() else sorted(p for p in base.rglob(name) if p.is_dir())
    if len(found) != 1:
        raise ManifestError(
            f"{base}: expected one folder {name!r} in it, got {len(found)}. Fix: `vtg data fetch"
            f" {data.name}`, or put the files there."
        )
    return found[0]


def _parse(path: Path, raw: Any) -> DataSet:
    label = f"{path}: {raw.get('name', '?') if isinstance(raw, Mapping) else raw}"

    def refuse(field: str, expected: str, got: Any) -> None:
        raise ManifestError(f"{label}: {field}: expected {expected}, got {got!r}. Fix: correct the manifest.")

    if not isinstance(raw, Mapping):
        refuse("set", "a mapping", raw)
    known = {f.name for f in fields(DataSet)}
    required = {"name", "kind", "dataset", "title", "licence", "homepage", "layout", "clip_length", "files"}
    if set(raw) - known:
        refuse("fields", f"only {sorted(known)}", sorted(set(raw) - known))
    if required - set(raw):
        refuse("fields", f"all of {sorted(required)}", f"no {sorted(required - set(raw))}")
    if raw["kind"] not in KINDS:
        refuse("kind", f"one of {KINDS}", raw["kind"])
    files = tuple(_file(item, refuse) for item in raw["files"] or ())
    unpack = tuple(
        Unpack(archives=tuple(item["archives"]), to=item["to"]) for item in raw.get("unpack") or ()
    )
    for step in unpack:
        _relative(step.to, refuse)
        for archive in step.archives:
            if archive not in {f.path for f in files}:
                refuse("unpack", "archives that are among files", archive)
    if not files and not raw.get("unknown"):
        refuse("unknown", "a reason where there are no files", None)
    if any(f.sha256 is None for f in files) and not raw.get("hashes"):
        refuse("hashes", "a reason where a sha256 is null", None)
    arrays = tuple(raw.get("arrays") or ())
    for array in arrays:
        if not {"name", "kind", "folder", "dims", "extractor", "clip_length"} <= set(array):
            refuse("arrays", "name, kind, folder, dims, extractor, clip_length", dict(array))
    rest = {k: v for k, v in raw.items() if k not in ("files", "unpack", "arrays", "papers")}
    data = DataSet(**rest, files=files, unpack=unpack, arrays=arrays, papers=tuple(raw.get("papers") or ()))
    for array in arrays:
        if array["dims"] is not None:
            feature_spec(data, array["name"])
    return data


def _file(item: Mapping[str, Any], refuse: Any) -> FileEntry:
    if not isinstance(item, Mapping) or set(item) != {"path", "addresses", "size", "sha256"}:
        refuse("files", "path, addresses, size, sha256", item)
    _relative(item["path"], refuse)
    if not item["addresses"] or not all(
        str(a).startswith(("https://", "http://")) for a in item["addresses"]
    ):
        refuse("addresses", "at least one http(s) address", item["addresses"])
    digest = item["sha256"]
    if digest is not None and (
        not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef")
    ):
        refuse("sha256", "64 hex digits or null", digest)
    if item["size"] is not None and (not isinstance(item["size"], int) or item["size"] <= 0):
        refuse("size", "bytes or null", item["size"])
    return FileEntry(path=item["path"], addresses=tuple(item["addresses"]), size=item["size"], sha256=digest)


def _relative(path: Any, refuse: Any) -> None:
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        refuse("path", "a path under the data root", path)
