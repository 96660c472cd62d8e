"""Where things lie, and how they are written so that neither a crash nor another process spoils them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the checkout
RESULTS = ROOT / "results"  # run stores and records
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


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path`, a file or folder that need not exist, against other processes and threads that ask here.

    Waits for whoever holds it; a process that is killed lets go. The lock is the file `<path>.lock`.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder: over the sorted relative paths, sizes and hashes of its files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{f.relative_to(path).as_posix()}\0{f.stat().st_size}\0{sha256(f)}\n" for f in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
