"""Where a number comes from: code, versions, machine, date."""

from __future__ import annotations

import ast
import datetime
import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vtg_lib.experiments.machine import device_name
from vtg_lib.experiments.store import Store
from vtg_lib.files import PACKAGE, RESULTS

# what a run goes through, besides its model's own module; whatever these import counts too
ROOTS = ("vtg_lib.data", "vtg_lib.models.initialisation", "vtg_lib.experiments.training")
# What `vtg_lib.experiments.replay` found; of one run the last line counts.
REPLAYS = RESULTS / "replays.jsonl"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def code_version() -> str:
    """The commit of the checkout, with "-dirty" where vtg_lib differs from it; else the package's version."""
    from vtg_lib import __version__

    top = _git("rev-parse", "--show-toplevel")
    commit = _git("rev-parse", "--short=12", "HEAD")
    if top is None or commit is None or Path(top).resolve() != PACKAGE.parent:
        return f"{__version__}, no commit"
    return commit + ("-dirty" if _git("status", "--porcelain", "--", str(PACKAGE)) else "")


@functools.cache  # an edit during a sweep does not change the code that is loaded
def source_digest(model_module: str) -> str:
    """First 12 hex digits of the SHA-256 over the definitions that decide a run's numbers.

    These are the top-level statements of the modules that data, training, scoring and `model_module` import
    from this package, lazily or not, and so on; neither other models nor presentation. Comments, docstrings,
    layout, import lines and the file that a definition stands in make no difference, nor does the version of
    Python.
    """
    modules = _imported((*ROOTS, model_module)).values()
    found = set().union(*(_read(path.read_bytes())[1] for path in modules))
    return hashlib.sha256("\0".join(sorted(found)).encode()).hexdigest()[:12]


def model_digest(model: str) -> str:
    """`source_digest` of a name of `vtg_lib.models.MODELS`."""
    from vtg_lib.models import entry

    return source_digest(entry(model).module)


def _decides_nothing(node: ast.AST) -> bool:
    """Imports, also those for types alone, `__all__`, and strings that stand alone, as docstrings do."""
    if isinstance(node, ast.If):
        return not node.orelse and all(map(_decides_nothing, node.body))
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    alone = (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    return alone or isinstance(node, ast.Import | ast.ImportFrom)


def _dump(value: Any) -> str:
    """A syntax tree as text: `ast.dump` without empty fields, which differ between versions of Python."""
    if isinstance(value, list):
        return f"[{','.join(_dump(item) for item in value if not _decides_nothing(item))}]"
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields if name not in ("ctx", "kind"))
        full = ",".join(f"{name}={_dump(item)}" for name, item in fields if item not in (None, []))
        return f"{type(value).__name__}({full})"
    return repr(value)


@functools.cache
def _read(source: bytes) -> tuple[list[str], set[str]]:
    """Names that a module imports from, at whatever depth, and its definitions as text."""
    tree = ast.parse(source)
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names, {_dump(node) for node in tree.body if not _decides_nothing(node)}


def _imported(roots: Iterable[str]) -> dict[str, Path]:
    """The modules of this package among `roots` and all that they import, with their files."""
    found: dict[str, Path] = {}
    names = list(roots)
    while names:
        name = names.pop()
        path = PACKAGE.parent / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name not in found and name.startswith(f"{PACKAGE.name}.") and path.exists():
            found[name] = path
            names += _read(path.read_bytes())[0]
    return found


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def provenance(device: str) -> dict[str, Any]:
    """code_version, versions {python, torch, numpy, cuda}, device, date (UTC, to the second)."""
    import numpy
    import torch

    return {
        "code_version": code_version(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "cuda": torch.version.cuda,
        },
        "device": device_name(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # these alone change the last digits
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


class SameCode:
    """Which versions of the code count as one: `of(digest)` is equal for them.

    Two do where all replays between them agreed, also by way of a third.
    """

    def __init__(self, path: Path = REPLAYS) -> None:
        self._parent: dict[str, str] = {}
        links: dict[tuple[str, str], bool] = {}
        for line in Store(path):
            link = line["earlier"], line["now"]
            links[link] = links.get(link, True) and not line["differs"]
        for (earlier, now), equal in links.items():
            if equal:
                self._parent[self.of(earlier)] = self.of(now)

    def of(self, digest: str) -> str:
        """One digest for all versions that count as the same."""
        while self._parent.get(digest, digest) != digest:
            digest = self._parent[digest]
        return digest


@functools.cache
def same_code() -> SameCode:
    """What the project's own replays found."""
    return SameCode()
