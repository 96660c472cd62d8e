"""What pickled classes of other libraries held, without a line of their code: options, mostly.

PyTorch's reader of weights takes names of classes and only calls what it is told is harmless. Here every name
that it does not know stands for an inert container, which keeps what it is given.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

# Names that have a harmless meaning: paths that touch no disk, and NumPy's numbers.
HARMLESS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "pathlib.PosixPath": pathlib.PurePosixPath,
    "pathlib.WindowsPath": pathlib.PureWindowsPath,
    "pathlib.Path": pathlib.PurePosixPath,
    "pathlib._local.PosixPath": pathlib.PurePosixPath,
    "pathlib._local.WindowsPath": pathlib.PureWindowsPath,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": np._core.multiarray.scalar,  # type: ignore[attr-defined]
    "numpy._core.multiarray.scalar": np._core.multiarray.scalar,  # type: ignore[attr-defined]
}
DTYPES = [type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OVMmSU"]


class Foreign(dict[Any, Any]):
    """An object of a class that is not loaded: its items, and its state."""

    name = "?"

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__()
        self.given, self.named = given, named
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:
        """As a list's."""
        self[len(self)] = value

    def extend(self, values: Any) -> None:
        """As a list's."""
        for value in values:
            self.append(value)


def foreign(name: str) -> type[Foreign]:
    """A container for the class of this name."""
    return type("Foreign", (Foreign,), {"name": name})


def plain(value: Any, depth: int = 0) -> Any:
    """Options as JSON could hold them: EasyDict, OmegaConf, argparse, dataclasses, NumPy's numbers, paths."""
    if depth > 50:
        return repr(value)
    if isinstance(value, Foreign):
        return _foreign(value, depth)
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, pathlib.PurePath):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def _foreign(value: Foreign, depth: int) -> Any:
    state: Mapping[Any, Any] = value.state if isinstance(value.state, Mapping) else {}
    if "_content" in state:  # OmegaConf's containers
        return plain(state["_content"], depth + 1)
    if "_val" in state:  # and its nodes
        return plain(state["_val"], depth + 1)
    if value:
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if state:
        return {str(key): plain(item, depth + 1) for key, item in state.items()}
    if len(value.given) == 1:  # an enumeration's value, a list's items
        return plain(value.given[0], depth + 1)
    return [plain(item, depth + 1) for item in value.given]
