"""Where things lie, how they are written so that neither a crash nor another process spoils them, and how
text is read that people have in whatever form."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the checkout
RESULTS = ROOT / "results"  # run stores and records
USUAL_CLIPS = (2.0, 1.0, 0.5, 1 / 8, 4.0, 1 / 3, 16 / 15, 5.0)  # seconds of a clip, of the field's features
UNEVEN = 0.08  # by how much a video's last clip may move its mean clip
# Annotations below the data root by data set and split, as `vtg data fetch` lays them.
ANNOTATIONS: dict[str, dict[str, str]] = {
    "qvhighlights": {
        "train": "qvhighlights/highlight_train_release.jsonl",
        "val": "qvhighlights/highlight_val_release.jsonl",
        "test": "qvhighlights/highlight_test_with_gt.jsonl",
    },
    "charades_sta": {
        "train": "charades_sta/charades_train_release.jsonl",
        "test": "charades_sta/charades_test_release.jsonl",
    },
    "tacos": {
        "train": "tacos/tacos_train_release.jsonl",
        "val": "tacos/tacos_val_release.jsonl",
        "test": "tacos/tacos_test_release.jsonl",
    },
    "tvsum": {
        "train": "tvsum/tvsum_train_release.jsonl",
        "val": "tvsum/tvsum_val_release.jsonl",
    },
    "youtube_highlights": {
        "train": "youtube_highlights/youtube_highlight_train_release.jsonl",
        "val": "youtube_highlights/youtube_highlight_val_release.jsonl",
    },
}


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of real data: `root`, else `VTG_DATA_ROOT`, else `data/` in the checkout, or here if there
    is none.
    """
    return Path(
        root or os.environ.get("VTG_DATA_ROOT") or (ROOT if (ROOT / "Makefile").exists() else Path()) / "data"
    )


def cache_root() -> Path:
    """Where checkpoints live: VTG_CACHE, else the user's cache folder."""
    if root := os.environ.get("VTG_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vtg"


def atomic_write(path: Path, payload: bytes) -> None:
    """Replace `path` by `payload`; whatever happens, `path` holds either the old bytes or the new ones,
    whole.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class Busy(OSError):
    """Somebody else holds what is wanted."""


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold `path`, a file or folder that need not exist, against other processes and threads that ask here.

    Waits for whoever holds it; a process that is killed lets go. The lock is the file `<path>.lock`.

    Raises:
        Busy: it is held, and `wait` is False.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(
            f"{path}: another run is writing it. Fix: wait until that one has ended, or name another file"
        ) from None
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder: over the sorted relative paths, sizes and hashes of its files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{f.relative_to(path).as_posix()}\0{f.stat().st_size}\0{sha256(f)}\n" for f in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class UnreadableFile(ValueError):
    """A file that holds no JSON; `faults` are (place, expected, got, fix) each."""

    def __init__(self, faults: Sequence[tuple[str, str, str, str]]) -> None:
        self.faults = list(faults)
        super().__init__(
            "\n".join(
                f"{place}: expected {expected}, got {got}. Fix: {fix}."
                for place, expected, got, fix in faults
            )
        )


AGAIN = "fetch or write the file again"
# The first bytes of what is no text, what it is, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file", "fetch the file itself (git lfs pull)"),
    (b"PK\x03\x04", "a zip archive (or a PyTorch file)", "unpack it, or name the file inside"),
    (b"\x93NUMPY", "a NumPy array", "give the JSON file"),
    (b"\x80", "a pickle", "give the JSON file; pickles may run code and are not read"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"(\xb5/\xfd", "a zstd archive", "unpack it first"),
    (b"<", "a web page (HTML)", "download the file again: a page was saved in its place"),
)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark, perhaps gzip, told by the first bytes and not by
    the name; line ends become "\\n".

    Raises:
        UnreadableFile: it cannot be read, or is no text.
    """
    place = str(path)
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            place += " (unpacked)"
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile([(str(path), "a whole gzip file", f"a torn one ({error})", AGAIN)]) from None
    except OSError as error:
        got = str(error.strerror or error)
        raise UnreadableFile(
            [(str(path), "a readable file", got, "check the path and its permissions")]
        ) from None
    _refuse_others(place, data[:64])
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        got = f"the byte {data[error.start : error.start + 1].hex()}" if line > 1 else "binary data"
        fix = "save it as UTF-8, or name the .jsonl file"
        raise UnreadableFile([(f"{place}, line {line}", "UTF-8 text", got, fix)]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refuse_others(place: str, head: bytes) -> None:
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for start, what, fix in _OTHERS:
        if head.startswith(start):
            raise UnreadableFile([(f"{place}, line 1", "JSON text", what, fix)])


def json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file of any size, one a line, as they are read: (line from 1, value); of a line
    that is not JSON, an `UnreadableFile` in place of the value. UTF-8, perhaps gzip; blank lines are skipped.

    Raises:
        UnreadableFile: the file cannot be read, or is no text.
    """
    place = str(path)
    try:
        with Path(path).open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    _refuse_others(place, line[:64])
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, _json_line(f"{place}, line {number}", line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile([(place, "a whole gzip file", f"a torn one ({error})", AGAIN)]) from None
    except OSError as error:
        got, fix = str(error.strerror or error), "check the path and its permissions"
        raise UnreadableFile([(place, "a readable file", got, fix)]) from None


def _json_line(place: str, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        got = f"the byte {line[error.start : error.start + 1].hex()}"
        return UnreadableFile([(place, "UTF-8 text", got, "save it as UTF-8")])
    except (ValueError, RecursionError) as error:
        return UnreadableFile([_json_fault(place, line.decode(), error, last=not line.endswith(b"\n"))])


def _json_fault(place: str, line: str, error: Exception, last: bool) -> tuple[str, str, str, str]:
    """What is wrong with a line that is not JSON; last: of its file, which may have been cut off."""
    torn = last and line.lstrip()[0] == "{" and line.rstrip()[-1] != "}"
    if torn:
        got = f"a torn line, which ends after {len(line.strip())} characters, in {line.strip()[-20:]!r}"
        return place, "one JSON object", got, AGAIN + ": it was cut off"
    got, fix = f"{line.strip()[:40]!r} ({error})", "write one JSON object a line (json.dumps without indent)"
    return place, "one JSON object", got, fix


def json_values(path: str | os.PathLike[str]) -> list[tuple[str, Any]]:
    """The JSON values of a file, (place, value) each: one a line; or those of one list; or one object alone.

    Raises:
        UnreadableFile: see `read_text`; an empty file; or lines that are not JSON, all of them.
    """
    text, values, faults = read_text(path), list[tuple[str, Any]](), list[tuple[str, str, str, str]]()
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UnreadableFile([(str(path), "JSON, one object a line", "an empty file", AGAIN)])
    if lines[0][1].lstrip()[0] in "[{" and (len(lines) == 1 or not _is_json(lines[0][1])):
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            whole = None
        if isinstance(whole, list):
            return [(f"{path}, item {number}", value) for number, value in enumerate(whole, 1)]
        if whole is not None:
            return [(f"{path}, line {lines[0][0]}", whole)]
    for number, line in lines:
        place = f"{path}, line {number}"
        try:
            values.append((place, json.loads(line)))
        except (ValueError, RecursionError) as error:
            faults.append(_json_fault(place, line, error, last=number == lines[-1][0]))
    if faults:
        raise UnreadableFile(faults)
    return values


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
