"""Checkpoints that authors published, as models of this library.

`import_checkpoint` reads such a file, maps its tensors by the rules of its method (one module a method, named
like it) and writes safetensors with the config and the source in the metadata; `load_imported` gives the
model back. A tensor is used, or listed with the reason why not; none is dropped silently, and none of ours
keeps a random value.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vtg_lib import models
from vtg_lib.files import atomic_write
from vtg_lib.models.imported.reading import CheckpointImportError, Source, read_source
from vtg_lib.models.imported.rules import Converted, Rules, convert, importable, rules_of

__all__ = [
    "CheckpointImportError",
    "Rules",
    "Source",
    "import_checkpoint",
    "importable",
    "load_imported",
    "read_source",
    "rules_of",
]

PREFIX = "vtg_"  # of our entries in a file's metadata


def import_checkpoint(
    model: str, source: str | Path, target: str | Path, overrides: Mapping[str, Any] | None = None
) -> tuple[Converted, dict[str, str]]:
    """Converts `source` to `target`; `target` is the old file or the whole new one, whatever happens.

    Args:
        overrides: config fields that neither the tensors nor the stored options show, or that they show
            wrongly.

    Returns:
        What was converted, and the metadata written.

    Raises:
        CheckpointImportError: see `read_source` and `convert`. ValueError: an unknown model or config field.
    """
    from safetensors.torch import save

    if Path(target).resolve() == Path(source).resolve():
        raise ValueError(f"{target}: expected another file than the one to read. Fix: give a new name")
    rules = rules_of(model)
    read = read_source(source, rules.state_keys)
    try:
        done = convert(model, rules, read.tensors, read.options, overrides or {})
    except CheckpointImportError as error:
        raise CheckpointImportError(f"{source}: {error}") from None
    notes = {
        "model": model,
        "config": json.dumps(dataclasses.asdict(done.config), sort_keys=True),
        "rules": rules.source,
        "source": read.path.name,
        "source_sha256": read.sha256,
        "options": json.dumps(read.options, sort_keys=True, default=str),
        "unused": json.dumps(dict(done.unused), sort_keys=True),
        "notes": json.dumps(read.notes),
    }
    notes = {PREFIX + key: value for key, value in notes.items()}
    tensors = {name: tensor.contiguous() for name, tensor in done.model.state_dict().items()}
    atomic_write(Path(target), save(tensors, metadata=notes))
    return done, notes


def load_imported(path: str | Path) -> nn.Module:
    """The model in a file that `import_checkpoint` wrote, on the CPU, in evaluation mode.

    Raises:
        CheckpointImportError: another file, a damaged one, or one whose tensors today's model does not have.
        FileNotFoundError: no such file.
    """
    from safetensors.torch import load_file

    notes = imported_notes(path)
    name = notes["model"]
    model = models.build(name, json.loads(notes["config"]))
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise CheckpointImportError(
            f"{path}: expected the tensors of today's {name}, got others"
            f" ({str(error).splitlines()[-1].strip()}). Fix: import the public checkpoint again."
        ) from error
    return model.eval()


def imported_notes(path: str | Path) -> dict[str, str]:
    """The metadata of an imported file: model, config, rules, source, source_sha256, options, unused (JSON
    where nested).
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an imported checkpoint, found nothing")
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
    except SafetensorError as error:
        notes, reason = {}, f"a file that is not readable as safetensors ({error})"
    else:
        reason = "a safetensors file of another origin"
    if PREFIX + "model" not in notes:
        raise CheckpointImportError(
            f"{path}: expected a file written by `vtg import-checkpoint`, got {reason}. Fix: "
            f"`vtg import-checkpoint --model MODEL {path} ours.safetensors`, then use that."
        )
    return {key.removeprefix(PREFIX): value for key, value in notes.items() if key.startswith(PREFIX)}
