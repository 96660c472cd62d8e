"""What pickled classes of other libraries held, without a line of their code: options, mostly.

PyTorch's reader of weights takes names of classes and only calls what it is told is harmless. Here every name
that it does not know stands for an inert container, which keeps what it is given.
"""

from __future__ import annotations

import argparse
import pathlib
from collections import OrderedDict
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


NAME, GIVEN = "__foreign__", "__given__"  # attributes of what stands for a foreign object


class _Foreign:
    """Makes an `OrderedDict`, to which PyTorch's reader lets a file add items and attributes."""

    name = "?"

    def __new__(cls, *given: Any) -> Any:
        made: OrderedDict[Any, Any] = OrderedDict()
        vars(made).update({NAME: cls.name, GIVEN: given})
        return made


def foreign(name: str) -> type:
    """What makes containers for objects of the class of this name."""
    return type("Foreign", (_Foreign,), {"name": name})


def foreign_name(value: Any) -> str | None:
    """The class that a container stands for; None of other values."""
    return vars(value).get(NAME) if type(value) is OrderedDict else None


def plain(value: Any, depth: int = 0) -> Any:
    """Options as JSON could hold them: EasyDict, OmegaConf, argparse, dataclasses, NumPy's numbers, paths."""
    if depth > 50:
        return repr(value)
    if foreign_name(value) is not None:
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


def _foreign(value: OrderedDict[Any, Any], depth: int) -> Any:
    state = {key: item for key, item in vars(value).items() if key not in (NAME, GIVEN)}
    given = vars(value)[GIVEN]
    for name in ("_content", "_val"):  # OmegaConf's containers, and its nodes
        if name in state:
            return plain(state[name], depth + 1)
    if value or state:
        return {str(key): plain(item, depth + 1) for key, item in (value or state).items()}
    if len(given) == 1:  # an enumeration's value
        return plain(given[0], depth + 1)
    return [plain(item, depth + 1) for item in given]
