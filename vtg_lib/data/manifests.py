"""What there is to download: the typed reader of `data_manifests/*.yaml`.

Each file holds `sets`; a set is what one `vtg data fetch <name>` brings. Paths are relative to the data root.
Addresses are web pages as the READMEs give them (plain files, Google Drive files, Hugging Face data sets);
none is invented, and a set without a known address says so in `unknown`. A null `sha256` means that the hash
is recorded at the first download (`fetch.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator

from vtg_lib.data.features import FeatureSpec
from vtg_lib.data.forms import check
from vtg_lib.files import PACKAGE, ROOT

Kind = Literal["annotations", "predictions", "logs", "features", "vectors"]


def _that(fine: Callable[[Any], bool], wanted: str) -> AfterValidator:
    def validate(value: Any) -> Any:
        if not fine(value):
            raise ValueError(f"expected {wanted}, got {value!r}")
        return value

    return AfterValidator(validate)


def _below_root(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts and "\\" not in path


Relative = Annotated[str, _that(_below_root, "a path under the data root")]
Address = Annotated[str, _that(lambda a: a.startswith(("https://", "http://")), "an http(s) address")]
Digest = Annotated[
    str, _that(lambda d: len(d) == 64 and not set(d) - set("0123456789abcdef"), "64 hex digits")
]
Bytes = Annotated[int, _that(lambda size: size > 0, "bytes")]


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

    path: Relative
    addresses: Annotated[tuple[Address, ...], _that(bool, "at least one address")]
    size: Bytes | None
    sha256: Digest | None


@dataclass(frozen=True, kw_only=True)
class Unpack:
    """Archives (several: parts of one, in order) and the folder that their content goes to."""

    archives: tuple[str, ...]
    to: Relative


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One fetchable set.

    Attributes:
        name: what `vtg data fetch` takes.
        kind: what the files are.
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
    kind: Kind
    dataset: str | None
    title: str
    licence: str
    homepage: str
    layout: str
    clip_length: float | None
    files: tuple[FileEntry, ...]
    unpack: tuple[Unpack, ...] = ()
    arrays: tuple[dict[str, Any], ...] = ()
    papers: tuple[str, ...] = ()
    folder: str | None = None
    notes: str | None = None
    unknown: str | None = None
    hashes: str | None = None
    stated_size: str | None = None

    def __post_init__(self) -> None:
        paths = {file.path for file in self.files}
        if others := [path for step in self.unpack for path in step.archives if path not in paths]:
            raise ValueError(f"unpack: expected archives that are among files, got {', '.join(others)}")
        if not self.files and not self.unknown:
            raise ValueError("unknown: expected a reason where there are no files, got none")
        if not self.hashes and any(file.sha256 is None for file in self.files):
            raise ValueError("hashes: expected a reason where a sha256 is null, got none")
        for array in self.arrays:
            if "folder" not in array:
                raise ValueError(f"arrays: expected a folder, got {', '.join(array)}")
            _array_spec(self.name, array | {"dims": 1} if array.get("dims", 1) is None else array)


@dataclass(frozen=True)
class _Manifest:
    sets: tuple[DataSet, ...]


def manifest_folder() -> Path:
    """`data_manifests/` of the checkout or of the installed package, or what `VTG_MANIFESTS` names.

    Raises:
        ManifestError: neither is there.
    """
    own = next((base for base in (ROOT, PACKAGE) if (base / "data_manifests").is_dir()), ROOT)
    folder = Path(os.environ.get("VTG_MANIFESTS") or own / "data_manifests")
    if not folder.is_dir():
        raise ManifestError(
            f"{folder}: expected the folder data_manifests, got none. Fix: run from a checkout, or set "
            "VTG_MANIFESTS to it."
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
        try:
            manifest = check(_Manifest, _listed(content), str(path))
        except ValueError as error:
            raise ManifestError(f"{error}. Fix: correct the manifest.") from None
        for entry in manifest.sets:
            if entry.name in found:
                raise ManifestError(
                    f"{path}: name: expected one set called {entry.name!r}, got two. Fix: rename one."
                )
            for file in entry.files:
                if file.path in targets:
                    raise ManifestError(
                        f"{path}: {entry.name}: path: {file.path} is also a file of "
                        f"{targets[file.path]}. Fix: change one."
                    )
                targets[file.path] = entry.name
            found[entry.name] = entry
    if not found:
        raise ManifestError(
            f"{folder}: expected manifests, got no .yaml file. Fix: point VTG_MANIFESTS to data_manifests."
        )
    return dict(sorted(found.items(), key=lambda item: get_args(Kind).index(item[1].kind)))


def _listed(content: Any) -> Any:
    """The content with an empty list for each null where a set has a list."""
    sets = content.get("sets") if isinstance(content, dict) else None
    for raw in sets if isinstance(sets, list) else []:
        for name in ("files", "unpack", "arrays", "papers"):
            if isinstance(raw, dict) and name in raw and raw[name] is None:
                raw[name] = []
    return content


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
            f"{data.name}: expected one of the arrays {[a['name'] for a in data.arrays]}, got {array!r}. "
            "Fix: use one of these."
        )
    if raw["dims"] is None:
        raise ManifestError(
            f"{data.name}: {array}: dims are unknown. Fix: look at the files, and write dims into the "
            "manifest."
        )
    return _array_spec(data.name, raw)


def _array_spec(name: str, array: dict[str, Any]) -> FeatureSpec:
    fields = {field: value for field, value in array.items() if field != "folder"}
    return check(
        FeatureSpec, fields | {"name": f"{name}/{array.get('name')}"}, f"arrays, {array.get('name')}"
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
            f"{base}: expected one folder {name!r} in it, got {len(found)}. Fix: `vtg data fetch "
            f"{data.name}`, or put the files there."
        )
    return found[0]
