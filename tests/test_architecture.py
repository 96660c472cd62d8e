"""The house: a dozen rooms, and imports that run downward only, lazy ones too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtg_lib.files import PACKAGE

LEVELS = (  # a room imports from the rooms below it, never from its neighbours or from above
    {"cli"},
    {"book"},
    {"papers"},
    {"experiments"},
    {"diagnostics"},
    {"models"},
    {"losses"},
    {"layers"},
    {"data", "evaluation"},
    {"spans", "files"},
)
ROOMS = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
BASELINES = {
    "sim_detr": "tr_detr",
    "sa_qd_detr": "qd_detr",
    "sa_tr_detr": "tr_detr",
}  # what some are built on
ALLOWED_ANYWHERE = {"__init__", "__main__"}  # the public names, and `python -m vtg_lib`


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module of the package) of every import in a file, at whatever depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if alias.name.startswith("vtg_lib.")
            )
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module == "vtg_lib":
            yield from ((node.lineno, f"vtg_lib.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vtg_lib."):
            yield node.lineno, node.module


def upward(package: Path) -> list[str]:
    """Imports that do not run downward, as "file:line imports module"."""
    found = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room in ALLOWED_ANYWHERE:
            continue
        for line, module in imports(path):
            target = module.split(".")[1]
            inside = target == room
            if target == "__version__":
                continue
            if module.startswith(".") or target not in ROOMS or not (inside or ROOMS[target] > ROOMS[room]):
                found.append(f"{path.relative_to(package)}:{line} imports {module}")
    return found


def test_the_top_level_has_twelve_entries():
    entries = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert entries - ALLOWED_ANYWHERE == set(ROOMS)
    assert len(ROOMS) == 12


def test_the_map_shows_every_room_and_the_imports():
    from vtg_lib.book import map as drawn

    assert [{name for name, _ in level} for level in drawn.LEVELS] == list(LEVELS)
    picture = drawn.svg()
    assert all(f">{room}<" in picture for room in ROOMS) and "models imports layers" in picture


def test_imports_run_downward():
    assert upward(PACKAGE) == []


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("from vtg_lib.papers import plan", True),
        ("def late():\n    from vtg_lib.book.tables import table", True),
        ("import vtg_lib.cli.main", True),
        ("from vtg_lib import papers", True),
        ("from ..papers import plan", True),
        ("from vtg_lib.nowhere import x", True),
        ("from vtg_lib.experiments.store import Store", False),
        ("from vtg_lib.models import build", False),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, line: str, bad: bool):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "run.py").write_text(line + "\n")
    assert bool(upward(tmp_path)) == bad


def test_a_model_imports_no_other_model_but_its_baseline():
    from vtg_lib.models import MODELS

    for name in MODELS:
        others = {
            module.split(".")[2]
            for _, module in imports(PACKAGE / "models" / f"{name}.py")
            if module.startswith("vtg_lib.models.")
        }
        assert others & set(MODELS) <= {BASELINES.get(name)}, name
