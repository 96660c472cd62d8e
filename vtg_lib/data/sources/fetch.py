"""`vtg data list | fetch | verify`: what is there, bringing what is not, and checking all of it.

Hashes that nobody knew are recorded in `<data root>/.vtg-hashes.json` when a file is first seen (downloaded,
or put there by hand and verified) and checked ever after. Archives are verified before they are unpacked and
removed afterwards; what they held is recorded as one hash over the folder.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vtg_lib.data.manifests import DataSet, FileEntry, get, load_manifests
from vtg_lib.data.sources.archives import DamagedArchive, unpack
from vtg_lib.data.sources.download import FetchError, download
from vtg_lib.files import atomic_write, locked, sha256
from vtg_lib.files import data_root as find_root

LOCK = ".vtg-hashes.json"


def list_rows(data_root: str | Path | None = None) -> list[dict[str, Any]]:
    """One row per set: `name, kind, dataset, title, licence, size, stated_size, clip_length, arrays,
    addresses, hashed, present, homepage, notes`.

    `size` is in bytes, None if unknown; `hashed` counts files with a known SHA-256; `present` is "all",
    "some" or "none" (no hashing).
    """
    root = find_root(data_root)
    rows = []
    for data in load_manifests().values():
        sizes = [f.size for f in data.files]
        rows.append(
            {
                "name": data.name,
                "kind": data.kind,
                "dataset": data.dataset,
                "title": data.title,
                "licence": data.licence,
                "size": sum(s for s in sizes if s) if sizes and all(sizes) else None,
                "stated_size": data.stated_size,
                "clip_length": data.clip_length,
                "arrays": [
                    {k: a[k] for k in ("name", "dims", "clip_length", "extractor")} for a in data.arrays
                ],
                "addresses": [a for f in data.files for a in f.addresses],
                "hashed": sum(f.sha256 is not None for f in data.files),
                "present": _presence(data, root),
                "homepage": data.homepage,
                "notes": " ".join(t for t in (data.notes, data.unknown) if t) or None,
            }
        )
    return rows


def _presence(data: DataSet, root: Path) -> str:
    unpacked = _unpacked(data, root)
    there = [file.path in unpacked or (root / file.path).exists() for file in data.files]
    if not data.files and data.folder is not None:
        there = [(root / data.folder).is_dir()]
    return "all" if there and all(there) else "some" if any(there) else "none"


def _unpacked(data: DataSet, root: Path) -> set[str]:
    """The archives whose folder is there."""
    return {archive for step in data.unpack if (root / step.to).is_dir() for archive in step.archives}


def fetch(
    name: str,
    data_root: str | Path | None = None,
    *,
    force: bool = False,
    keep_archives: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Brings a set under the data root; what is there and right stays.

    Args:
        name: of a set in `data_manifests/`.
        data_root: see `vtg_lib.files.data_root`.
        force: download and unpack again, replacing what is there once the new files are verified.
        keep_archives: keep archives after unpacking.

    Returns:
        Rows as of `verify`, for the files and folders of this set; archives that were unpacked before have
        none.

    Raises:
        ManifestError: no such set.
        FetchError: no address is known, none worked, or a file that is there is wrong.
        ArchiveError: a verified archive could not be unpacked safely.
    """
    data, root = get(name), find_root(data_root)
    if not data.files:
        folder = root / data.folder if data.folder else None
        present = f" ({folder} is there already)" if folder and folder.is_dir() else ""
        raise FetchError(f"{data.name}: no address is known{present}. {data.unknown}")
    root.mkdir(parents=True, exist_ok=True)
    unpacked = set() if force else _unpacked(data, root)
    rows = [_bring(data, file, root, force, progress) for file in data.files if file.path not in unpacked]
    for step in data.unpack:
        if unpacked.issuperset(step.archives):
            rows.append(_check(data, step.to, root))
            continue
        target, archives = _inside(root, step.to), [_inside(root, path) for path in step.archives]
        try:
            unpack(archives, target, replace=force, progress=progress)
        except DamagedArchive:  # its hash must not stand in the way of a whole one
            _forget(root, step.archives)
            raise
        digest = sha256(target)
        status = _record(root, step.to, "unpacked from " + ", ".join(step.archives), digest)
        rows.append(_row(data, step.to, status, digest, digest))
        for archive in [] if keep_archives else archives:
            archive.unlink(missing_ok=True)
    return rows


def _bring(data: DataSet, file: FileEntry, root: Path, force: bool, progress: bool) -> dict[str, Any]:
    """Downloads one file unless it is there, and right.

    It comes beside an existing one and is swapped at the end, so that a failed `force` loses nothing.
    """
    target = _inside(root, file.path)
    if target.exists() and not force:
        row = _check(data, file.path, root, file)
        if row["status"] == "wrong":
            fix = f"delete it (or force), then `vtg data fetch {data.name}`"
            raise FetchError(f"{target}: {row['detail']}. Fix: {fix}.")
        return row
    record = _read_lock(root).get(file.path, {})
    known = file.sha256 or record.get("sha256")
    fresh = target.with_name(target.name + ".new") if target.exists() else target
    try:
        address, digest = download(file.addresses, fresh, known=known, size=file.size, progress=progress)
    except FetchError as error:
        if file.sha256 is not None or not record:
            raise
        source = f"The expected hash was recorded from {record['address']} on {record['date']}"
        fix = f"if the source rightly changed, remove that entry of {root / LOCK}"
        raise FetchError(f"{error}\n{source}; {fix}.") from None
    if fresh != target:
        if target.is_dir():
            shutil.rmtree(target)
        fresh.replace(target)
    status = _record(root, file.path, address, digest)
    return _row(data, file.path, "ok" if known else status, known or digest, digest)


def verify(name: str | None = None, data_root: str | Path | None = None) -> list[dict[str, Any]]:
    """Hashes what is there of one set, or of all.

    Returns:
        One row per file, unpacked folder or folder of a set without addresses:
        `set, path, status, expected, got, detail`. `status`: "ok" (as the manifest, or the record of the
        first time, says), "recorded" (seen for the first time, hash recorded), "unrecorded" (the same, but
        the data root is read-only), "missing", or "wrong".
    """
    root = find_root(data_root)
    rows = []
    for data in [get(name)] if name is not None else load_manifests().values():
        folders = [step.to for step in data.unpack]
        if not folders and not data.files and data.folder:
            folders = [data.folder]
        unpacked = _unpacked(data, root)
        kept = [file for file in data.files if file.path not in unpacked or (root / file.path).exists()]
        rows += [_check(data, file.path, root, file) for file in kept]
        rows += [_check(data, folder, root) for folder in folders]
    return rows


def _check(data: DataSet, path: str, root: Path, file: FileEntry | None = None) -> dict[str, Any]:
    """The row of a file, or of a folder, whose hash no manifest has."""
    place, record = root / path, _read_lock(root).get(path, {})
    stated = file.sha256 if file else None
    expected = stated or record.get("sha256")
    if not place.exists():
        hint = f"`vtg data fetch {data.name}`" if data.files else data.unknown
        return _row(data, path, "missing", expected, None, hint)
    got = sha256(place)
    if expected is None:
        status = _record(root, path, "put there by hand", got)
        return _row(data, path, status, got if status == "recorded" else None, got)
    if got == expected:
        return _row(data, path, "ok", expected, got)
    origin = "the manifest" if stated else f"the record of {record.get('date')}"
    detail = f"SHA-256 differs from {origin}: expected {expected}, got {got}"
    if file and file.size is not None:
        detail += f", {file.size:,} bytes expected, {place.stat().st_size:,} found"
    return _row(data, path, "wrong", expected, got, detail)


def _row(
    data: DataSet, path: str, status: str, expected: str | None, got: str | None, detail: str | None = ""
) -> dict[str, Any]:
    return {
        "set": data.name, "path": path, "status": status, "expected": expected, "got": got, "detail": detail,
    }  # fmt: skip


def _inside(root: Path, path: str) -> Path:
    """`root / path`, unless a link leads it elsewhere."""
    target = root / path
    if not target.resolve().is_relative_to(root.resolve()):
        raise FetchError(
            f"{target}: expected a path inside {root}, got {target.resolve()}. Fix: remove the link."
        )
    return target


def _read_lock(root: Path) -> dict[str, Any]:
    path = root / LOCK
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        fix = "restore the file, or delete it to record all hashes anew"
        raise FetchError(f"{path}: expected JSON, got {error}. Fix: {fix}.") from None
    return content


def _forget(root: Path, paths: Collection[str]) -> None:
    """Takes files out of the lock file; a data root that is read-only has recorded nothing."""
    with contextlib.suppress(PermissionError), locked(root / LOCK):
        content = {path: entry for path, entry in _read_lock(root).items() if path not in paths}
        atomic_write(root / LOCK, json.dumps(content, indent=1, sort_keys=True).encode())


def _record(root: Path, path: str, address: str, digest: str) -> str:
    """Writes what was seen into the lock file: "recorded", or "unrecorded" if the data root is read-only."""
    place = root / path
    files = [file for file in place.rglob("*") if file.is_file()] if place.is_dir() else [place]
    entry = {
        "sha256": digest,
        "size": sum(file.stat().st_size for file in files),
        "address": address,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    try:
        with locked(root / LOCK):
            content = _read_lock(root) | {path: entry}
            atomic_write(root / LOCK, json.dumps(content, indent=1, sort_keys=True).encode())
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return "unrecorded"
        raise
    return "recorded"
