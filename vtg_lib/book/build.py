"""Executes the chapters and renders the book: ``python -m vtg_lib.book.build build|render|contents|lock``.

Sources are ``notebooks/*.ipynb`` (clean). Executed notebooks stay under ``_build/``, so that a build leaves
every tracked file as it was; ``--keep`` puts them into ``book/chapters/``, too (committed; what ``render``
shows). Rendering stages a copy of ``book/`` under ``_build/src``, adds the status page and the page's own
scripts, and never trains.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vtg_lib.book import assets, contents
from vtg_lib.book import map as house
from vtg_lib.book.checks import external_files, repeated_constants
from vtg_lib.book.figures import page_html
from vtg_lib.book.sources import to_pages
from vtg_lib.book.status import errors, read, status_page
from vtg_lib.files import ROOT


class BookError(RuntimeError):
    """A chapter failed, or the book could not be rendered. The message says which and what to do."""


# --- executing


def sources(root: Path = ROOT, drafts: bool = False) -> list[Path]:
    """The chapters' source notebooks, in reading order; drafts, which are in no book, only if asked for."""
    from vtg_lib.papers import load_paper, paper_keys

    left_out = {paper.chapter for paper in map(load_paper, paper_keys()) if paper.draft and not drafts}
    every = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    return [path for path in every if path.stem not in left_out]


def select(chapter: str, root: Path = ROOT) -> list[Path]:
    """Source notebooks named by ``chapter``: ``all``, or stems separated by commas, drafts too.

    Raises:
        BookError: no such chapter; the message lists those there are.
    """
    if chapter == "all":
        return sources(root)
    every = {path.stem: path for path in sources(root, drafts=True)}
    names = [name.strip().removesuffix(".ipynb") for name in chapter.split(",") if name.strip()]
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        wrong = ", ".join(unknown) or repr(chapter)
        raise BookError(f"no chapter {wrong}; there are: all, {', '.join(every)}")
    return [every[name] for name in names]


def executed_path(source: Path, root: Path = ROOT) -> Path:
    """Where `execute` leaves a chapter."""
    return root / "_build" / "executed" / source.name


def execute(source: Path, parameters: Mapping[str, Any], root: Path = ROOT) -> Path:
    """Run one chapter by papermill and return the executed notebook (under ``_build/executed``).

    The notebook is kept, failing cell included, when a cell raises.

    Raises:
        BookError: a cell raised.
    """
    import papermill

    target = executed_path(source, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    print(f"executing {source.name}: {json.dumps(dict(parameters))}", flush=True)
    try:
        papermill.execute_notebook(
            str(source),
            str(target),
            parameters=dict(parameters),
            cwd=str(source.parent),
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
        )
    except papermill.exceptions.PapermillExecutionError as error:
        raise BookError(f"{source.name} stopped: {error.ename}: {error.evalue}\n(see {target})") from error
    _relative_paths(target, root)
    print(f"executed {source.name} in {time.perf_counter() - start:.0f} s", flush=True)
    return target


def _relative_paths(path: Path, root: Path) -> None:
    """Make the paths that papermill records relative, so that executed notebooks say nothing about the
    machine.
    """
    notebook = read(path)
    record = notebook["metadata"].get("papermill", {})
    for key in ("input_path", "output_path"):
        if record.get(key):
            record[key] = os.path.relpath(record[key], root)
    record["environment_variables"] = {}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- rendering


def stage(root: Path, replacements: Mapping[str, Path]) -> Path:
    """Copy ``book/`` to ``_build/src`` with just-executed chapters in place of the committed ones, the claims
    as a chart, and the status page.

    Raises:
        BookError: a chapter was never executed, or holds a failed cell.
    """
    target = root / "_build" / "src"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target, ignore=shutil.ignore_patterns("_build", ".ipynb_checkpoints"))
    (target / "chapters").mkdir(exist_ok=True)
    for name, path in replacements.items():
        shutil.copy(path, target / "chapters" / name)
    book = sources(root)
    every = sources(root, drafts=True)
    drafts = [source for source in every if source.name in replacements and source not in book]
    chapters = [target / "chapters" / source.name for source in sorted([*book, *drafts])]
    if drafts:  # just executed
        listed = contents.toc([source.stem for source in drafts])
        (target / "_toc.yml").write_text(listed, encoding="utf-8")
    missing = [path.stem for path in chapters if not path.exists()]
    if missing:
        raise BookError(f"never executed: {', '.join(missing)}; run `make book CHAPTER={missing[0]} KEEP=1`")
    for path in chapters:
        if failed := errors(path):
            raise BookError(
                f"{path.name} holds a failed cell: {failed[0]}; execute it again with `make book KEEP=1`"
            )
        _prepare(path)
    intro = target / "intro.md"
    chart = contents.first_page(contents.front.judged(contents.papers(), root / "results"), live=True)
    text = contents.between_markers(intro.read_text(encoding="utf-8"), chart, contents.CLAIMS)
    intro.write_text(text, encoding="utf-8")
    (target / "status.md").write_text(status_page(chapters), encoding="utf-8")
    (target / "map.svg").write_text(house.svg(), encoding="utf-8")
    return target


def _prepare(path: Path) -> None:
    """Links to files of the library lead to their pages, charts lie beside their pictures, and the cell that
    papermill adds is as little of the first screen as the one that it stands in for.
    """
    notebook = json.loads(to_pages(path.read_text(encoding="utf-8")))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "data" in output and (page := page_html(output["data"])):
                output["data"] = {"text/html": page}
        if "injected-parameters" in (tags := cell["metadata"].get("tags", [])):
            tags.append("hide-input")
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def render(root: Path = ROOT, replacements: Mapping[str, Path] | None = None) -> Path:
    """Render the executed chapters; returns the page to open.

    Raises:
        BookError: a chapter is missing or holds an error, Sphinx warned, an offline page asks another host
            for a file, or the scripts of a page declare a constant twice.
    """
    source = stage(root, replacements or {})
    packages = assets.install(root)
    if packages is not None:
        assets.lay_out(packages, source / "offline")
        config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
        config["sphinx"]["config"].update(assets.OFFLINE_SETTINGS)
        (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    output = root / "_build" / "jupyter-book"
    shutil.rmtree(output, ignore_errors=True)
    program = str(Path(sys.executable).parent / "jupyter-book")
    command = [program, "build", str(source), "--path-output", str(output), "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise BookError(f"jupyter-book failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    page = root / "_build" / "html"
    shutil.rmtree(page, ignore_errors=True)
    shutil.move(output / "_build" / "html", page)
    if packages is not None and (asked := external_files(page)):
        raise BookError(f"the page should be complete without a network but loads {', '.join(sorted(asked))}")
    for path in page.rglob("*.html"):
        if twice := repeated_constants(path.read_text(encoding="utf-8")):
            raise BookError(
                f"{path.relative_to(page)}: its scripts declare {', '.join(twice)} more than once"
            )
    return page / "index.html"


def parameters_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a chapter that command-line options give. A folder of data goes to VTG_DATA_ROOT: a
    parameter would stand in the committed chapter.
    """
    given = {key: value for key, value in options.items() if value}
    if "data_root" in given:
        os.environ["VTG_DATA_ROOT"] = str(Path(given.pop("data_root")).resolve())
    return given


def build(chapter: str, parameters: Mapping[str, Any], root: Path = ROOT, *, keep: bool = False) -> Path:
    """Execute the selected chapters and render the book; returns the page to open.

    Args:
        keep: put them into `book/chapters/`, too; a chapter that could not be rendered is not put there.
    """
    replacements = {source.name: execute(source, parameters, root) for source in select(chapter, root)}
    page = render(root, replacements)
    if keep:
        for name, path in replacements.items():
            shutil.copy(path, root / "book" / "chapters" / name)
    return page


# --- lock file, command line


def lock(root: Path = ROOT) -> None:
    """Rewrite ``requirements.lock`` from the environment that runs this, keeping its heading."""
    path = root / "requirements.lock"
    heading = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude", "vtg-lib", "--exclude", "pip"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pins = [re.sub(r"\+\w+$", "", line) for line in frozen if "==" in line]
    pins.sort(key=lambda line: (not line.startswith("torch=="), line.lower()))
    path.write_text("\n".join([*heading, *pins]) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vtg_lib.book.build", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="execute chapters and render the book")
    command.add_argument("--chapter", default="all")
    command.add_argument("--profile", default="quick")
    command.add_argument("--device", default="auto")
    command.add_argument("--seeds", help="comma-separated, such as 0,1,2")
    command.add_argument("--data-root")
    command.add_argument("--rerun", action="store_true")
    command.add_argument(
        "--keep", action="store_true", help="put the executed chapters into book/chapters, too"
    )
    commands.add_parser("render", help="render the executed chapters, training nothing")
    commands.add_parser(
        "contents", help="write the lists of chapters, and the picture of the claims, from papers and store"
    )
    commands.add_parser("lock", help="rewrite requirements.lock from this environment")
    options = vars(parser.parse_args(arguments))
    name = options.pop("command")
    try:
        if name == "lock":
            lock()
            return 0
        contents.write()
        if name == "render":
            print(f"open {render()}")
        elif name == "build":
            chapter, keep = options.pop("chapter"), options.pop("keep")
            print(f"open {build(chapter, parameters_of(options), keep=keep)}")
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
