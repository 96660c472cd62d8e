"""Atomic checkpoints: a killed process or a full disk never costs the last good one."""

from __future__ import annotations

import contextlib
import errno
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtg_lib.files import atomic_write


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or does not belong to the run that reads it."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) to `path`, atomically.

    Raises:
        CheckpointError: the write failed; says why and that the previous checkpoint is kept.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        atomic_write(path, buffer.getvalue())
    except OSError as error:
        kept = "The previous checkpoint is kept" if path.exists() else "There is no earlier checkpoint"
        reason = (
            f"the disk is full ({buffer.tell() / 2**20:.1f} MiB needed)"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else str(error)
        )
        raise CheckpointError(
            f"could not write the checkpoint {path}: {reason}. {kept}: free some space, or choose another "
            "folder with VTG_CACHE, and start the same run again."
        ) from error


def load_checkpoint(path: Path, run: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The state in `path`, on the CPU, or None where there is no such file. Never unpickles code
    (`weights_only`).

    Args:
        run: what the state's own `run` must equal.

    Raises:
        CheckpointError: the file is not a readable checkpoint, or belongs to another run.
    """
    import torch

    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: {error}). Delete it to train from "
            "the start."
        ) from error
    expected, got = run or {}, state.get("run", {})
    if different := [key for key in expected if got.get(key) != expected[key]]:
        raise CheckpointError(
            f"{path} belongs to another run: {', '.join(different)} differ; expected "
            f"{[expected[key] for key in different]}, got {[got.get(key) for key in different]}. Use another "
            "checkpoint folder, or delete the file to train from the start."
        )
    return state


def discard_stale(folder: Path, digest: str) -> None:
    """Remove a checkpoint that other code wrote: going on from it would mix two versions in one number."""
    note, checkpoint = folder / "source_digest", folder / "checkpoint.pt"
    if checkpoint.exists() and (not note.exists() or note.read_text(encoding="utf-8") != digest):
        warnings.warn(
            f"the code changed since {checkpoint} was written; training from the start", stacklevel=2
        )
        checkpoint.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(digest, encoding="utf-8")


def discard_checkpoint(folder: Path) -> None:
    """Leave nothing of a stored run in its folder but weights that somebody asked for."""
    for name in ("checkpoint.pt", "source_digest"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or gone
        folder.rmdir()
