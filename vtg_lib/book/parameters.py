"""Parameters of a chapter: checked once, at the start, with messages that say what to give instead.

papermill only warns about a parameter that a notebook does not have; here it is an error, because a run with
a misspelt parameter is a run of something else.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtg_lib.files import ROOT

# profile -> seeds that are trained when none are named
PROFILES: dict[str, tuple[int, ...]] = {
    "smoke": (0,),
    "quick": (0,),
    "sim": (0, 1, 2),
    "rendered": (0, 1, 2),
    "official": (0, 1, 2),
}
NAMES = ("profile", "device", "seeds", "rerun", "data_root")
_INJECTED = "# Parameters"  # first line of the cell that papermill puts in


class ParameterError(ValueError):
    """A chapter was started with a parameter it does not have, or with a value it cannot use."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Checked parameters of a chapter.

    Attributes:
        profile: how much is trained: smoke, quick, sim, rendered or official.
        device: "cpu" or "cuda" ("auto" is resolved).
        seeds: seeds to train and to show.
        rerun: train again what the run store already has.
        data_root: folder with real data, or None where there is none.
    """

    profile: str
    device: str
    seeds: tuple[int, ...]
    rerun: bool
    data_root: Path | None

    @classmethod
    def parse(
        cls,
        *,
        profile: Any = "quick",
        device: Any = "auto",
        seeds: Any = None,
        rerun: Any = False,
        data_root: Any = None,
    ) -> Parameters:
        """Check every value.

        Raises:
            ParameterError: says the parameter, what was expected, what was given.
        """
        if profile not in PROFILES:
            raise ParameterError(f"profile: expected one of {', '.join(PROFILES)}; got {profile!r}")
        return cls(
            profile=profile,
            device=_device(device),
            seeds=_seeds(seeds, PROFILES[profile]),
            rerun=_flag("rerun", rerun),
            data_root=_data_root(data_root),
        )


def check_names(names: Iterable[str]) -> None:
    """Refuse parameters that chapters do not have.

    Raises:
        ParameterError: names the unknown ones and those there are.
    """
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ParameterError(f"unknown parameter {', '.join(unknown)}; a chapter has {', '.join(NAMES)}")


def injected_names(cells: Iterable[str]) -> list[str]:
    """Names that papermill's injected cell assigns, given the sources of the cells executed so far."""
    names: list[str] = []
    for source in cells:
        if source.lstrip().startswith(_INJECTED):
            for node in ast.parse(source).body:
                if isinstance(node, ast.Assign):
                    names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def executed_cells() -> list[str]:
    """Sources of the cells that the running kernel has executed; empty outside a notebook."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return []
    shell = get_ipython()
    return [] if shell is None else list(shell.user_ns.get("In", []))


def _device(value: Any) -> str:
    import torch

    if value not in ("auto", "cpu", "cuda"):
        raise ParameterError(f"device: expected auto, cpu or cuda; got {value!r}")
    available = torch.cuda.is_available()
    if value == "cuda" and not available:
        raise ParameterError(
            "device: cuda was asked for but torch sees no GPU; use device=auto or device=cpu"
        )
    return "cuda" if available and value != "cpu" else "cpu"


def _seeds(value: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    if value is None or value == "":
        return default
    wanted = f"seeds: expected whole numbers from 0 on, such as [0, 1, 2] or '0,1,2'; got {value!r}"
    items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    try:
        seeds = tuple(int(item) for item in items)
    except (TypeError, ValueError):
        raise ParameterError(wanted) from None
    whole = all(
        isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool)) for item in items
    )
    if not whole or not seeds or min(seeds) < 0:
        raise ParameterError(wanted)
    if len(set(seeds)) < len(seeds):
        raise ParameterError(f"seeds: each may be given once; got {value!r}")
    return seeds


def _flag(name: str, value: Any) -> bool:
    words = {"true": True, "false": False}
    value = words.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise ParameterError(f"{name}: expected true or false; got {value!r}")
    return value


def _data_root(value: Any) -> Path | None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise ParameterError(f"data_root: expected a folder's path; got {value!r}")
    if value:
        folder = Path(value).expanduser()
        # A chapter runs inside notebooks/; a relative path is meant from the checkout, where
        # `papermill notebooks/…` is typed.
        folder = folder if folder.is_absolute() or folder.is_dir() else ROOT / folder
        if not folder.is_dir():
            raise ParameterError(
                f"data_root: {value} is no folder; `vtg data fetch --data-root {value}` fills one"
            )
        return folder.resolve()
    for candidate in (os.environ.get("VTG_DATA_ROOT"), ROOT / "data"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate).resolve()
    return None
