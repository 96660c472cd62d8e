"""The options that commands share, each declared once, and what is made of their values."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from vtg_lib.files import RESULTS

if TYPE_CHECKING:
    from vtg_lib.experiments.machine import Machine
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers.schema import Paper

Json = Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")]
Traceback = Annotated[bool, typer.Option("--traceback", help="show where an error comes from")]
DataRoot = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="real data; default VTG_DATA_ROOT, else data/")
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda")]
Rerun = Annotated[bool, typer.Option("--rerun", help="train again what is stored")]
Checkpoints = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="default VTG_CACHE, else the user's cache folder")
]
PaperStore = Annotated[
    Path | None, typer.Option(metavar="FILE", help="run store; default results/<chapter>.jsonl")
]
PaperKey = Annotated[str, typer.Option(metavar="KEY", help="key of the paper")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only list the runs")]
Models = Annotated[str | None, typer.Option(metavar="NAMES", help="names, comma-separated; default: all")]
Workers = Annotated[int | None, typer.Option(help="processes; default: one a core on a CPU, one on a GPU")]


def pairs(text: str) -> Any:
    """An option that takes several KEY=VALUE (see `Command`); a parameter of it is a `list[str] | None`."""
    return typer.Option(metavar="KEY=VALUE ...", help=text)


@dataclass(kw_only=True)
class Reply:
    """What a command answers: `value` for `--json`, `text` for people, and the exit code."""

    value: Any
    text: str
    code: int = 0


@dataclass
class _Plain:
    """What typer asks for the value of a parameter."""

    read: Callable[[Any], Any]

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        return None if value is None else self.read(value)


def _number(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number, got {text!r}") from None


def _choice(kind: Any) -> Callable[[Any], Any]:
    def read(word: Any) -> Any:
        if word not in get_args(kind):
            raise typer.BadParameter(f"expected one of {', '.join(get_args(kind))}; got {word!r}")
        return word

    return read


class _Light:
    """Reads words, paths and flags without pydantic, whose import would be a fourth of `vtg eval`'s time."""

    kinds: ClassVar[dict[Any, Callable[[Any], Any]]] = {
        **{str: str, Path: Path, bool: bool, list[str]: list, list[Path]: lambda paths: [*map(Path, paths)]},
        float: lambda text: _number(text),
    }

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            descriptor = getattr(parameter, "type_descriptor", None)
            kind = getattr(descriptor, "annotation", None)
            if read := _choice(kind) if get_origin(kind) is Literal else self.kinds.get(kind):
                parameter._runtime_param = _Plain(read)
        return parameters


class Group(_Light, TyperGroup):
    """`vtg`, and `vtg data`."""


class Command(_Light, TyperCommand):
    """A command whose options of several values take them in one go, too: `--config width=64 heads=4`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {  # see `pairs`; of the other options that may be repeated each takes one value
            name
            for option in self.params
            if str(getattr(option, "metavar", None)).startswith("KEY=VALUE")
            for name in option.opts
        }
        takes_files = any(parameter.param_type_name == "argument" for parameter in self.params)
        spread: list[str] = []
        option = None
        for before, word in zip(["", *args], args, strict=False):
            if word.startswith("-"):
                option = word if word in several else None
            elif option and before != option:
                # where the command takes files, what does not look like KEY=VALUE is one of them
                spread += [option] if "=" in word or not takes_files else []
            spread.append(word)
        return super().parse_args(ctx, spread)


def without_nan(value: Any) -> Any:
    """JSON has no NaN: None takes its place, in mappings of any depth."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def writable(path: Path, option: str) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises:
        ValueError: a folder, or nothing that this user may write.
    """
    if path.is_dir():
        raise ValueError(f"{option}: expected a file, got the folder {path}. Fix: name a file in it")
    parent = next(folder for folder in (path.absolute().parent, *path.absolute().parents) if folder.exists())
    if not parent.is_dir():
        raise ValueError(f"{option}: expected a file in a folder, but {parent} is a file. Fix: another path")
    try:
        with path.open("ab") if path.exists() else tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        what = path if path.exists() else parent
        reason = f"{what} cannot be written ({error.strerror or error})"
        raise ValueError(f"{option}: {reason}. Fix: another path, or its permissions") from None


def store_of(store: Path | None, paper: Paper) -> Store:
    """`--store`, or the paper's own."""
    from vtg_lib.experiments.store import Store

    return Store(store or RESULTS / f"{paper.chapter}.jsonl")


def listed(specs: Sequence[RunSpec], store: Store) -> Reply:
    """`--dry-run`: the runs, and how many the store lacks."""
    from vtg_lib.experiments.run import find

    rows: list[dict[str, Any]] = [
        {"hash": s.hash, "model": s.model, "seed": s.seed, "stored": find(store, s) is not None}
        for s in specs
    ]
    lines = [
        f"{row['hash']}  {row['model']:12} seed {row['seed']}{'  stored' if row['stored'] else ''}"
        for row in rows
    ]
    lines.append(f"{sum(not row['stored'] for row in rows)} to train")
    return Reply(value=rows, text="\n".join(lines))


def machine_of(
    device: str = "cpu",
    data_root: Path | None = None,
    checkpoints: Path | None = None,
    rerun: bool = False,
) -> Machine:
    """`--device`, `--data-root`, `--checkpoints` and `--rerun`."""
    from vtg_lib.experiments.machine import Machine

    return Machine(device=device_of(device), data_root=data_root, checkpoint_root=checkpoints, rerun=rerun)


def knobs(items: Sequence[str] | None) -> dict[str, Any]:
    """KEY=VALUE pairs, the values read as YAML."""
    import yaml

    found = {}
    for item in items or ():
        key, sign, text = item.partition("=")
        if not key or not sign:
            raise ValueError(f"expected KEY=VALUE, got {item!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"expected KEY=VALUE with a YAML value, got {item!r}") from None
        with contextlib.suppress(ValueError):  # YAML takes 1e-3 for a word
            value = float(value) if isinstance(value, str) else value
        found[key] = value
    return found


def names(text: str | None) -> list[str] | None:
    """`tab5,tab7` -> ["tab5", "tab7"]; None where nothing was chosen."""
    return text.split(",") if text else None


def seeds_of(text: str) -> list[int]:
    """`3` -> [0, 1, 2]; `0,2,5` -> [0, 2, 5]."""
    try:
        numbers = [int(part) for part in text.split(",") if part]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or numbers == [0] and "," not in text:
        raise ValueError(f"--seeds: expected how many (3) or which (0,2,5), got {text!r}")
    return numbers if "," in text else list(range(numbers[0]))


def device_of(name: str) -> str:
    """`--device`; "auto" is a GPU where torch sees one.

    Raises:
        ValueError: no device that the library supports, or one that this machine does not have.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(
            f"--device: expected auto, cpu or cuda, got {name!r}, which this library does not support"
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU; use --device cpu")
    return name
