"""`vtg data list | fetch | verify`: what is there, bringing what is not, and checking all of it.

Hashes that nobody knew are recorded in `<data root>/.vtg-hashes.json` when a file is first seen (downloaded,
or put there by hand and verified) and checked ever after. Archives are verified before they are unpacked and
removed afterwards; what they held is recorded as one hash over the folder.
"""

from __future__ import annotations

import datetime
import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtg_lib.data.manifests import DataSet, FileEntry, get, load_manifests
from vtg_lib.data.sources.archives import ArchiveError, unpack
from vtg_lib.data.sources.download import FetchError, download
from vtg_lib.files import atomic_write, locked, sha256
from vtg_lib.files import data_root as find_root

LOCK = ".vtg-hashes.json"
__all__ = ["ArchiveError", "FetchError", "fetch", "list_rows", "status", "verify"]


def list_rows(data_root: str | Path | None = None) -> list[dict[str, Any]]:
    """One row per set:
    `name, kind, dataset, title, licence, size, stated_size, clip_length, arrays, addresses, hashed, present,
    homepage, notes`.

    `size` is in bytes, None if unknown; `hashed` counts files with a known SHA-256; `present` is "all",
    "some" or
        "none" (no hashing).
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


def status(data_root: str | Path | None = None) -> dict[str, str]:
    """Per set "all", "some" or "none" of its files there; cheap, nothing is hashed."""
    root = find_root(data_root)
    return {name: _presence(data, root) for name, data in load_manifests().items()}


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
        present = (
            ""
            if data.folder is None or not (root / data.folder).is_dir()
            else f" ({root / data.folder} is there already)"
        )
        raise FetchError(f"{data.name}: no address is known{present}. {data.unknown}")
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    pending = [step for step in data.unpack if force or not (root / step.to).is_dir()]
    unpacked = {archive for step in data.unpack if step not in pending for archive in step.archives}
    for file in data.files:
        target = _inside(root, file.path)
        if file.path in unpacked:
            continue
        lock = _read_lock(root)
        if target.exists() and not force:
            rows.append(_check(data, file, root, lock))
            if rows[-1]["status"] == "wrong":
                raise FetchError(
                    f"{target}: {rows[-1]['detail']}. Fix: delete it (or force), then `vtg data fetch"
                    f" {name}`."
                )
            continue
        record = lock.get(file.path)
        known = file.sha256 or (record or {}).get("sha256")
        try:
            address, digest = _place(file, target, known, progress)
        except FetchError as error:
            if file.sha256 is not None or record is None:
                raise
            source = f"The expected hash was recorded from {record['address']} on {record['date']}"
            raise FetchError(
                f"{error}\n{source}; if the source rightly changed, remove that entry of {root / LOCK}."
            ) from None
        written = _record(root, file.path, target, address, digest)
        rows.append(
            _row(
                data,
                file.path,
                "ok" if known else "recorded" if written else "unrecorded",
                known or digest,
                digest,
            )
        )
    for step in data.unpack:
        if step not in pending:
            rows.append(_check(data, FileEntry(path=step.to, addresses=()), root, _read_lock(root)))
            continue
        target = _inside(root, step.to)
        unpack([_inside(root, a) for a in step.archives], target, replace=force, progress=progress)
        digest = sha256(target)
        written = _record(root, step.to, target, "unpacked from " + ", ".join(step.archives), digest)
        rows.append(_row(data, step.to, "recorded" if written else "unrecorded", digest, digest))
    if not keep_archives:
        for step in pending:
            for archive in step.archives:
                (root / archive).unlink(missing_ok=True)
    return rows


def verify(name: str | None = None, data_root: str | Path | None = None) -> list[dict[str, Any]]:
    """Hashes what is there of one set, or of all.

    Returns:
        One row per file, unpacked folder or folder of a set without addresses:
        `set, path, status, expected, got, detail`. `status`: "ok" (as the manifest, or the record of the
        first time, says), "recorded" (seen for the first time, hash recorded), "unrecorded" (the same, but
        the data root is read-only), "missing", or "wrong".
    """
    root = find_root(data_root)
    sets = [get(name)] if name is not None else list(load_manifests().values())
    rows = []
    for data in sets:
        lock = _read_lock(root)
        folders = [step.to for step in data.unpack] or (
            [data.folder] if data.folder and not data.files else []
        )
        done = {a for step in data.unpack if (root / step.to).is_dir() for a in step.archives}
        rows += [
            _check(data, file, root, lock)
            for file in data.files
            if file.path not in done or (root / file.path).exists()
        ]
        rows += [_check(data, FileEntry(path=folder, addresses=()), root, lock) for folder in folders]
    return rows


def _check(data: DataSet, file: FileEntry, root: Path, lock: Mapping[str, Any]) -> dict[str, Any]:
    path = root / file.path
    record = lock.get(file.path, {})
    expected = file.sha256 or record.get("sha256")
    row = _row(data, file.path, "missing", expected, None)
    if not path.exists():
        return row | {"detail": data.unknown if not data.files else f"`vtg data fetch {data.name}`"}
    got = sha256(path)
    row["got"] = got
    if expected is None:
        written = _record(root, file.path, path, "put there by hand", got)
        return row | {"status": "recorded" if written else "unrecorded", "expected": got if written else None}
    if got != expected:
        origin = "the manifest" if file.sha256 else f"the record of {record.get('date')}"
        size = "" if file.size is None else f", {file.size:,} bytes expected, {path.stat().st_size:,} found"
        return row | {
            "status": "wrong",
            "detail": f"SHA-256 differs from {origin}: expected {expected}, got {got}{size}",
        }
    return row | {"status": "ok"}


def _row(data: DataSet, path: str, status: str, expected: str | None, got: str | None) -> dict[str, Any]:
    return {"set": data.name, "path": path, "status": status, "expected": expected, "got": got, "detail": ""}


def _place(file: FileEntry, target: Path, known: str | None, progress: bool) -> tuple[str, str]:
    """Downloads beside an existing target and swaps at the end, so that a failed `force` loses nothing;
    address and SHA-256.
    """
    fresh = target.with_name(target.name + ".new") if target.exists() else target
    got = download(file.addresses, fresh, known=known, size=file.size, progress=progress)
    if fresh != target:
        if target.is_dir():
            shutil.rmtree(target)
        fresh.replace(target)
    return got


def _presence(data: DataSet, root: Path) -> str:
    done = {a for step in data.unpack if (root / step.to).is_dir() for a in step.archives}
    there = [f.path in done or (root / f.path).exists() for f in data.files]
    if not data.files and data.folder is not None:
        there = [(root / data.folder).is_dir()]
    return "all" if there and all(there) else "some" if any(there) else "none"


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
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise FetchError(
            f"{path}: expected JSON, got {error}. Fix: restore the file, or delete it to record all hashes"
            " anew."
        ) from None
    return content


def _record(root: Path, path: str, target: Path, address: str, digest: str) -> bool:
    """Writes what was seen into the lock file, whole or not at all; False if the data root is read-only."""
    entry = {
        "sha256": digest,
        "size": (
            sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
            if target.is_dir()
            else target.stat().st_size
        ),
        "address": address,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    try:
        with locked(root / LOCK):
            content = _read_lock(root) | {path: entry}
            atomic_write(root / LOCK, json.dumps(content, indent=1, sort_keys=True).encode())
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise
    return True
