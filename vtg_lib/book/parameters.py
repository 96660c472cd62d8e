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
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, NonNegativeInt, PlainValidator

from vtg_lib.data.forms import check
from vtg_lib.files import ROOT

ProfileName = Literal["smoke", "quick", "sim", "rendered", "official"]
PROFILES: tuple[str, ...] = get_args(ProfileName)
DEFAULTS = {"profile": "quick", "device": "auto", "seeds": None, "rerun": False, "data_root": None}
LIVE = ("smoke", "quick")  # profiles whose runs are trained in the chapter and kept out of the run store
_INJECTED = "# Parameters"  # first line of the cell that papermill puts in


class ParameterError(ValueError):
    """A chapter was started with a parameter it does not have, or with a value it cannot use."""


def _resolved(device: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("cuda was asked for but torch sees no GPU; use device=auto or device=cpu")
    return "cuda" if available and device != "cpu" else "cpu"


def _listed(seeds: Any) -> Any:
    """The forms that shells give: "0,1,2" and 4."""
    if isinstance(seeds, str):
        return tuple(int(item) if item.strip().isdigit() else item for item in seeds.split(","))
    return (seeds,) if isinstance(seeds, int) else tuple(seeds) if isinstance(seeds, list) else seeds


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not 0 < len(seeds) == len(set(seeds)):
        raise ValueError(f"expected one seed or more, each given once; got {list(seeds)}")
    return seeds


def _boolean(word: Any) -> Any:
    return {"true": True, "false": False}.get(word.lower(), word) if isinstance(word, str) else word


def _folder(given: Any) -> Path | None:
    if not isinstance(given, str | None):
        raise ValueError(f"expected a folder's path, got {given!r}")
    if not given:
        places = (os.environ.get("VTG_DATA_ROOT"), ROOT / "data")
        return next((Path(place).resolve() for place in places if place and Path(place).is_dir()), None)
    folder = Path(given).expanduser()
    # A chapter runs inside notebooks/; a relative path is meant from the checkout, where
    # `papermill notebooks/…` is typed.
    folder = folder if folder.is_absolute() or folder.is_dir() else ROOT / folder
    if not folder.is_dir():
        raise ValueError(f"{given} is no folder; `vtg data fetch --data-root {given}` fills one")
    return folder.resolve()


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

    profile: ProfileName
    device: Annotated[Literal["auto", "cpu", "cuda"], AfterValidator(_resolved)]
    seeds: Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
    rerun: Annotated[bool, BeforeValidator(_boolean)]
    data_root: Annotated[Path | None, PlainValidator(_folder)]

    @classmethod
    def parse(cls, **given: Any) -> Parameters:
        """Check every name and value; what is not given has its default.

        Raises:
            ParameterError: says the parameter, what was expected, what was given.
        """
        values = DEFAULTS | given
        if values["seeds"] in (None, ""):
            values["seeds"] = (0,) if values["profile"] in LIVE else (0, 1, 2)
        try:
            return check(cls, values, "parameters")
        except ValueError as error:
            raise ParameterError(str(error)) from None


def injected_names(cells: Iterable[str]) -> list[str]:
    """Names that papermill's injected cell assigns, given the sources of the cells executed so far."""
    return [
        target.id
        for source in cells
        if source.lstrip().startswith(_INJECTED)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def executed_cells() -> list[str]:
    """Sources of the cells that the running kernel has executed; empty outside a notebook."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return []
    shell = get_ipython()
    return [] if shell is None else list(shell.user_ns.get("In", []))
