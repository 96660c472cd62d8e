"""Atomic checkpoints: a killed process or a full disk never costs the last good one."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import torch


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or does not belong to the run that reads it."""


def atomic_write(path: Path, payload: bytes) -> None:
    """Replace `path` by `payload`; whatever happens, `path` holds either the old bytes or the new ones,
    whole.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) to `path`, atomically.

    Raises:
        CheckpointError: the write failed; says why and that the previous checkpoint is kept.
    """
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


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in `path`, on the CPU, or None where there is no such file. Never unpickles code
    (`weights_only`).

    Raises:
        CheckpointError: the file is not a readable checkpoint.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: {error}). Delete it to train from the start."
        ) from error
