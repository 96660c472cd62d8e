"""Unpacking downloads: nothing leaves the target folder, and nothing half-unpacked is ever seen there."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

CHUNK = 1 << 20


class ArchiveError(ValueError):
    """An archive that is damaged, or that holds what it must not; nothing of it was put in place."""


class DamagedArchive(ArchiveError):
    """One that is not whole, or no archive at all: another download may be."""


HTML_FIX = (
    "the address serves a page instead of the file; open it in a browser, download by hand and put the file "
    "there"
)


def looks_like_html(head: bytes) -> bool:
    """Whether a file begins like a web page (a quota notice, a log-in form, an error page)."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<script")) or (
        start.startswith(b"<?xml") and b"<html" in start
    )


def unpack(
    archives: Sequence[str | Path], to: str | Path, *, replace: bool = False, progress: bool = True
) -> int:
    """Unpacks a zip or tar archive (plain or compressed; several files are the parts of one) into a new
    folder.

    Everything is written to a staging folder beside `to`, which is renamed when the last member is there.

    Args:
        archives: verified files.
        to: folder to make.
        replace: whether it may replace an existing one.

    Returns:
        Number of files.

    Raises:
        DamagedArchive: not an archive, or a damaged one.
        ArchiveError: a member that would leave the folder, a link or device, no space, or `to` exists.
    """
    paths, to = [Path(a) for a in archives], Path(to)
    with paths[0].open("rb") as file:
        head = file.read(1024)
    if looks_like_html(head):
        raise DamagedArchive(f"{paths[0]}: expected an archive, got an HTML page. Fix: {HTML_FIX}.")
    if to.exists() and not replace:
        raise ArchiveError(
            f"{to}: expected no such folder before unpacking {paths[0].name}, got one. Fix: move it "
            "away, or force the fetch."
        )
    staging = to.with_name(f".{to.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        members = _zip(paths, staging) if head.startswith(b"PK") else _tar(paths, staging)
        count = _drain(members, paths[0].name, progress)
        if not count:
            raise DamagedArchive(
                f"{paths[0]}: expected files in the archive, got none. Fix: delete it and fetch again."
            )
        if to.exists():
            old = to.with_name(f".{to.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            to.replace(old)
            staging.replace(to)
            shutil.rmtree(old)
        else:
            staging.replace(to)
        return count
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError(
                f"{to}: no space left on the device while unpacking {paths[0].name}. Fix: free space; "
                "the archive is kept."
            ) from None
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _drain(members: Iterator[str], name: str, progress: bool) -> int:
    from tqdm.auto import tqdm

    return sum(1 for _ in tqdm(members, desc=f"unpack {name}", unit=" files", disable=not progress))


def _safe(archive: Path, name: str, staging: Path) -> Path:
    """Where a member goes, if that is inside the staging folder."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ".." in parts or (parts and ":" in parts[0]) or "\0" in name:
        raise ArchiveError(
            f"{archive}: expected members inside the archive's folder, got {name!r}. Fix: do not trust "
            "this archive; report it to its source."
        )
    return staging.joinpath(*parts)


def _forbidden(archive: Path, name: str, what: str) -> ArchiveError:
    return ArchiveError(
        f"{archive}: expected files and folders only, got a {what} at {name!r}. Fix: do not trust this "
        "archive; report it to its source."
    )


def _room(archive: Path, size: int, staging: Path) -> None:
    free = shutil.disk_usage(staging).free
    if size > free:
        raise ArchiveError(
            f"{archive}: expected room for {size:,} bytes, got {free:,} free. Fix: free space; the "
            "archive is kept."
        )


def _zip(paths: Sequence[Path], staging: Path) -> Iterator[str]:
    if len(paths) > 1:
        raise ArchiveError(
            f"{paths[0]}: expected one zip file, got {len(paths)} parts. Fix: correct `unpack` in the "
            "manifest."
        )
    try:
        with zipfile.ZipFile(paths[0]) as archive:
            targets = {info: _safe(paths[0], info.filename, staging) for info in archive.infolist()}
            for info in targets:
                mode = info.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _forbidden(paths[0], info.filename, "link or device")
            _room(paths[0], sum(info.file_size for info in targets), staging)
            for info, target in targets.items():
                if info.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, CHUNK)
                yield info.filename
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise DamagedArchive(
            f"{paths[0]}: expected a whole zip archive, got {error}. Fix: delete it and fetch again."
        ) from None


def _tar(paths: Sequence[Path], staging: Path) -> Iterator[str]:
    try:
        with io.BufferedReader(_Joined(paths), CHUNK) as raw, _decompressed(raw) as stream:
            # Streaming ("r|") never seeks back to what a member name points to; the decompressor checks sums,
            # tarfile does not.
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    target = _safe(paths[0], member.name, staging)
                    if member.isdir():
                        target.mkdir(parents=True, exist_ok=True)
                        continue
                    source = archive.extractfile(member) if member.isreg() else None
                    if source is None:
                        raise _forbidden(paths[0], member.name, "link or device")
                    _room(paths[0], member.size, staging)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as sink:
                        shutil.copyfileobj(source, sink, CHUNK)
                    yield member.name
            while stream.read(CHUNK):  # a torn file may end between two members; its end is where it shows
                pass
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _torn(paths[0], error) from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report damage as an OSError without a number
            raise _torn(paths[0], error) from None
        raise


def _decompressed(raw: io.BufferedReader[Any]) -> IO[bytes]:
    head = raw.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if head == b"\xfd7zXZ\x00" else raw


def _torn(archive: Path, error: Exception) -> DamagedArchive:
    return DamagedArchive(
        f"{archive}: expected a whole tar archive, got {type(error).__name__}: {error}. Fix: delete it "
        "and fetch again."
    )


class _Joined(io.RawIOBase):
    """Several files read as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._file is None:
                if not self._paths:
                    return 0
                self._file = self._paths.pop(0).open("rb")
            count = self._file.readinto(buffer)
            if count:
                return count
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()
