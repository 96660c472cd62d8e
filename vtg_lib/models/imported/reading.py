"""Checkpoint files of other repositories: read without running anything that is in them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtg_lib.files import sha256
from vtg_lib.models.imported import containers

STATE_KEYS = ("model", "state_dict", "model_state_dict", "model_ema")
OPTION_KEYS = ("opt", "args", "cfg", "config", "hyper_parameters", "hparams", "options")
PREFIXES = ("module.", "model.", "ema_model.", "_orig_mod.")  # that wrappers put before every name
COUNTERS = ("n_averaged",)  # what averaging of weights counts


class CheckpointImportError(ValueError):
    """A checkpoint that cannot be imported: what was expected, what was found, and the fix."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A public checkpoint as read.

    Attributes:
        path: of the file; sha256: of its bytes.
        tensors: the state dict on the CPU, without what wrappers (DataParallel, `torch.compile`, averaging of
            weights) add to names.
        options: the training options stored beside it; {} where there are none.
        notes: what was taken away or left aside.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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
    tensors, notes = unwrapped(tensors)
    if broken := [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]:
        raise CheckpointImportError(
            f"{path}: expected finite weights, got NaN or infinite ones in {', '.join(broken[:5])}"
        )
    return Source(path=path, sha256=digest, tensors=tensors, options=options, notes=notes)


def unwrapped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A state dict without prefixes of wrappers and counters of averaging, and what was taken away."""
    notes = [f"left aside: {name}" for name in tensors if name.rsplit(".", 1)[-1] in COUNTERS]
    found = {name: value for name, value in tensors.items() if name.rsplit(".", 1)[-1] not in COUNTERS}
    while prefix := next((p for p in PREFIXES if found and all(n.startswith(p) for n in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
        notes.append(f"taken off every name: {prefix}")
    if any("_orig_mod." in name for name in found):  # of compiled parts
        found = {name.replace("_orig_mod.", ""): value for name, value in found.items()}
        notes.append("taken out of names: _orig_mod.")
    return found, tuple(notes)


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
    """What `torch.save` wrote, and no options yet; classes of other libraries as inert containers."""
    known: list[Any] = [(found, name) for name, found in containers.HARMLESS.items()]
    known += [*containers.DTYPES, *((containers.foreign(name), name) for name in _foreign_classes(path))]
    try:
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # torch raises several unrelated types for a damaged file
        if not (isinstance(error, pickle.UnpicklingError) and (names := _foreign_classes(path))):
            raise CheckpointImportError(_damaged(path, error)) from error
        raise CheckpointImportError(
            f"{path}: expected tensors and options, got also {', '.join(names)}, whose code this library "
            "does not run. Fix: where you trust the file, save its state dict and options as plain values, "
            '`torch.save({"model": c["model"], "opt": {"nheads": 8, …}}, "clean.ckpt")`.'
        ) from error


def _foreign_classes(path: Path) -> list[str]:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # older than the zip format, or damaged
        return []
    harmless = {f"{dtype.__module__}.{dtype.__qualname__}" for dtype in containers.DTYPES}
    return sorted(set(names) - set(containers.HARMLESS) - harmless)


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
    kind = containers.foreign_name(content)
    if not isinstance(content, Mapping) or kind:
        what = f"an object of {kind}" if kind else type(content).__name__
        raise CheckpointImportError(
            f"{path}: expected a dictionary with a state dict, got {what}. Fix: where you trust the file, "
            'save `{"model": its.state_dict(), "opt": its options}`.'
        )
    for key in OPTION_KEYS:
        stored = containers.plain(content.get(key))
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
