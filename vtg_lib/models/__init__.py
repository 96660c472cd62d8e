"""The methods, by name: every file of this folder that defines an `ENTRY` is one.

Listing the names imports no method, and no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from vtg_lib.models.config import ModelEntry


@functools.cache
def _defines_entry(path: Path) -> bool:
    return re.search(r"^ENTRY\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _names() -> list[str]:
    files = (path for folder in __path__ for path in Path(folder).glob("*.py"))
    return sorted(path.stem for path in files if _defines_entry(path))


class _Models(Mapping[str, "ModelEntry"]):
    """File name -> the `ENTRY` in it, imported when it is asked for."""

    def __getitem__(self, name: str) -> ModelEntry:
        if name not in _names():
            raise KeyError(name)
        found: ModelEntry = importlib.import_module(f"{__name__}.{name}").ENTRY
        return found

    def __contains__(self, name: object) -> bool:
        return name in _names()

    def __iter__(self) -> Iterator[str]:
        return iter(_names())

    def __len__(self) -> int:
        return len(_names())


MODELS: Mapping[str, ModelEntry] = _Models()


def entry(name: str) -> ModelEntry:
    """The registered method `name`.

    Raises:
        ValueError: no such method.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(sorted(MODELS))}; got {name!r}")
    return MODELS[name]


def baseline(name: str) -> str | None:
    """The method whose class the method `name` extends; None where it is built on none.

    Raises:
        ValueError: no such method.
    """
    extended = entry(name).model_class.__mro__[1:]
    known = {MODELS[other].model_class: other for other in MODELS}
    return next((known[base] for base in extended if base in known), None)


def resolve(name: str, overrides: Mapping[str, Any] | None = None) -> Any:
    """The full config of a method: its defaults with `overrides`.

    Raises:
        ValueError: unknown method, a field that its config does not have, or a value of another type.
    """
    from vtg_lib.data.knobs import cast_like

    config_class, overrides = entry(name).config_class, overrides or {}
    defaults = dataclasses.asdict(config_class())
    if unknown := sorted(set(overrides) - set(defaults)):
        raise ValueError(f"config of {name}: unknown fields {unknown}; it has {sorted(defaults)}")
    return config_class(
        **{key: cast_like(f"{name}.{key}", defaults[key], value) for key, value in overrides.items()}
    )


def build(name: str, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """A freshly initialised model. Seed the global generator before the call."""
    return entry(name).model_class(resolve(name, overrides))


def count_parameters(model: nn.Module) -> int:
    """Learnable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
