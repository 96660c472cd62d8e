"""Checkpoint files of other repositories: read without running anything that is in them."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtg_lib.files import sha256

STATE_KEYS = ("model", "state_dict", "model_state_dict", "model_ema")
OPTION_KEYS = ("opt", "args", "cfg", "config")
ALLOWED: list[Any] = [
    argparse.Namespace
]  # what the authors' files hold besides tensors, numbers, strings and containers


class CheckpointImportError(ValueError):
    """A checkpoint that cannot be imported: what was expected, what was found, and the fix."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A public checkpoint as read.

    Attributes:
        path: of the file; sha256: of its bytes.
        tensors: the state dict on the CPU, without the prefix that DataParallel adds.
        options: the training options stored beside it; {} where there are none.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)


def read_source(path: str | Path, state_keys: Sequence[str] = STATE_KEYS) -> Source:
    """The state dict and options in a `torch.save` or safetensors file. Never unpickles code
    (`weights_only`).

    Args:
        state_keys: where in the file to look for the state dict, in this order; else the file is one itself.

    Raises:
        CheckpointImportError: unreadable, truncated, a web page, a file with other classes, or without a
            state dict.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a checkpoint file, found {'a folder' if path.is_dir() else 'nothing'}"
        )
    digest = sha256(path)
    with path.open("rb") as file:
        head = file.read(512)
    _refuse_other_files(path, head)
    torch_file = head.startswith(b"PK\x03\x04") or head.startswith(b"\x80")
    content, options = _read_torch(path) if torch_file else _read_safetensors(path)
    tensors, options = _state(path, content, options, state_keys)
    prefixed = all(name.startswith("module.") for name in tensors)
    tensors = {name.removeprefix("module.") if prefixed else name: tensor for name, tensor in tensors.items()}
    if broken := [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]:
        raise CheckpointImportError(
            f"{path}: expected finite weights, got NaN or infinite ones in {', '.join(broken[:5])}"
        )
    return Source(path=path, sha256=digest, tensors=tensors, options=options)


def _refuse_other_files(path: Path, head: bytes) -> None:
    start = head.lstrip().lower()
    if not start:
        found = "an empty file"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        found = "a web page (a download link that asks for a confirmation or a login gives one)"
    elif start.startswith(b"version https://git-lfs"):
        found = "a Git LFS pointer (the file itself was not fetched)"
    else:
        return
    raise CheckpointImportError(
        f"{path}: expected a checkpoint, got {found}. Fix: download the file itself again."
    )


def _read_torch(path: Path) -> tuple[Any, Mapping[str, Any]]:
    """What `torch.save` wrote, and no options yet."""
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except pickle.UnpicklingError as error:
        foreign = _foreign_classes(path)
        if not foreign:
            raise CheckpointImportError(_damaged(path, error)) from error
        raise CheckpointImportError(
            f"{path}: expected tensors and an argparse.Namespace, got also {', '.join(foreign)}, whose code"
            " this library does not run. Fix: where you trust the file, save its state dict alone,"
            ' `torch.save({"model": torch.load(FILE, weights_only=False)["model"]}, "clean.ckpt")`.'
        ) from error
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise CheckpointImportError(_damaged(path, error)) from error


def _foreign_classes(path: Path) -> list[str]:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # older than the zip format, or damaged
        return []
    return sorted(set(names) - {f"{c.__module__}.{c.__qualname__}" for c in ALLOWED})


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason given"
    return (
        f"{path}: expected a whole checkpoint, got a file that cannot be read ({type(error).__name__}:"
        f" {reason}). Fix: it is probably truncated; download it again and compare its size with the source."
    )


def _read_safetensors(path: Path) -> tuple[Any, Mapping[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            notes, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointImportError(_damaged(path, error)) from error
    if "vtg_model" in notes:
        raise CheckpointImportError(
            f"{path}: expected a public checkpoint, got one that is imported already ({notes['vtg_model']}). "
            "Fix: use it as it is."
        )
    for key in OPTION_KEYS:
        try:
            options = json.loads(notes[key])
        except (KeyError, json.JSONDecodeError):
            continue
        if isinstance(options, dict):
            return tensors, options
    return tensors, {}


def _state(
    path: Path, content: Any, options: Mapping[str, Any], keys: Sequence[str]
) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    """The state dict and the options in what a file held."""
    if not isinstance(content, Mapping):
        raise CheckpointImportError(
            f"{path}: expected a dictionary with a state dict, got {type(content).__name__}"
        )
    for key in OPTION_KEYS:
        stored = content.get(key)
        stored = vars(stored) if isinstance(stored, argparse.Namespace) else stored
        if isinstance(stored, Mapping):
            options = stored
            break
    for state in [content[key] for key in keys if key in content] + [content]:
        if (
            isinstance(state, Mapping)
            and state
            and all(isinstance(value, Tensor) for value in state.values())
        ):
            return state, options
    raise CheckpointImportError(
        f"{path}: expected a state dict under {', '.join(keys)} or at the top, got the entries "
        f"{', '.join(map(str, list(content)[:10]))}. Fix: save the model's state dict alone."
    )
