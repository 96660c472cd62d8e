"""Executes the chapters and renders the book: ``python -m vtg_lib.book.build build|execute|render|lock``.

Sources are ``notebooks/*.ipynb`` (clean). Executed notebooks go to ``book/chapters/`` (what the book renders,
committed), except those of profile ``smoke``, which only prove that the code runs and stay under ``_build/``.
Rendering stages a copy of ``book/`` under ``_build/src``, adds the status page and the page's own scripts,
and never trains.
"""

from __future__ import annotations

import argparse
import hashlib
import html
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

from vtg_lib.book import map as house
from vtg_lib.files import ROOT

PROVENANCE = "vtg_provenance"  # the key of a chapter footer's record in the metadata of its output

# Where the page's own scripts lie in their npm packages, and where the page looks for them (below _static).
_MANAGER = "@jupyter-widgets/html-manager/dist"
_OFFLINE_SETTINGS: dict[str, Any] = {
    "html_static_path": ["static", "offline"],
    "nb_ipywidgets_js": {
        "widgets-shim.js": {},
        "npm/require.js": {},
        f"npm/{_MANAGER}/embed-amd.js": {},
    },
    "mathjax_path": "npm/mathjax/tex-mml-chtml.js",
}


class BookError(RuntimeError):
    """A chapter failed, or the book could not be rendered. The message says which and what to do."""


# ----------------------------------------------------------------------------------------------------------
# executing


def sources(root: Path = ROOT) -> list[Path]:
    """The chapters' source notebooks, in reading order."""
    return sorted((root / "notebooks").glob("[0-9]*.ipynb"))


def select(chapter: str, root: Path = ROOT) -> list[Path]:
    """Source notebooks named by ``chapter``: ``all``, or stems separated by commas.

    Raises:
        BookError: no such chapter; the message lists those there are.
    """
    every = {path.stem: path for path in sources(root)}
    if chapter == "all":
        return list(every.values())
    names = [name.strip().removesuffix(".ipynb") for name in chapter.split(",") if name.strip()]
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise BookError(
            f"no chapter {', '.join(unknown) or repr(chapter)}; there are: all, {', '.join(every)}"
        )
    return [every[name] for name in names]


def execute(source: Path, parameters: Mapping[str, Any], root: Path = ROOT) -> Path:
    """Run one chapter by papermill and return the executed notebook (under ``_build/executed``).

    The notebook is kept, failing cell included, when a cell raises.

    Raises:
        BookError: a cell raised.
    """
    import papermill

    target = root / "_build" / "executed" / source.name
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
    notebook = json.loads(path.read_text(encoding="utf-8"))
    record = notebook["metadata"].get("papermill", {})
    for key in ("input_path", "output_path"):
        if record.get(key):
            record[key] = os.path.relpath(record[key], root)
    record["environment_variables"] = {}
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------
# status page


def provenance(path: Path) -> dict[str, Any]:
    """What an executed notebook says about its run: the chapter's footer and papermill's clock. Empty where
    absent.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    record: dict[str, Any] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            record = output.get("metadata", {}).get(PROVENANCE, record)
    clock = notebook["metadata"].get("papermill", {})
    return {
        **record,
        "duration_s": clock.get("duration"),
        "started": clock.get("start_time"),
        "failed": errors(path),
    }


def errors(path: Path) -> list[str]:
    """Error outputs in an executed notebook, as ``name: value``."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [f"{out['ename']}: {out['evalue']}" for out in outputs if out["output_type"] == "error"]


def status_page(chapters: Sequence[Path]) -> str:
    """The status page (Markdown): profile, run time, device and versions of every executed chapter."""
    lines = [
        "# Status",
        "",
        "How each chapter of this book was last executed. The page is written from the executed notebooks when the "
        "book is rendered; rendering itself runs no code.",
        "",
        "| chapter | profile | executed (UTC) | run time | device | code | versions |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in chapters:
        record = provenance(path)
        versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
        duration = record["duration_s"]
        lines.append(
            "| "
            + " | ".join(
                [
                    f"[{path.stem}](chapters/{path.stem}.ipynb)",
                    str(record.get("profile", "unknown")),
                    str(record["started"] or "unknown")[:16].replace("T", " "),
                    "unknown" if duration is None else f"{duration:.0f} s",
                    str(record.get("device", "unknown")),
                    f"`{record.get('code_version', 'unknown')}`",
                    versions or "unknown",
                ]
            )
            + " |"
        )
    return "\n".join(lines) + "\n"


# ----------------------------------------------------------------------------------------------------------
# rendering


def install_assets(root: Path = ROOT) -> Path | None:
    """Install the pinned npm packages under ``_build/npm``; None (with a printed note) where that cannot be
    done.
    """
    folder = root / "_build" / "npm"
    manifest = [root / "package.json", root / "package-lock.json"]
    stamp, digest = (
        folder / ".installed",
        hashlib.sha256(b"".join(p.read_bytes() for p in manifest)).hexdigest(),
    )
    if stamp.exists() and stamp.read_text() == digest:
        return folder / "node_modules"
    bundled = Path(sys.executable).parent / "npm"
    npm = str(bundled) if bundled.exists() else shutil.which("npm")
    if npm is None:
        print("note: no npm found; widgets and formulas of the rendered page will be loaded from CDNs")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for path in manifest:
        shutil.copy(path, folder)
    environment = {**os.environ, "PATH": f"{Path(npm).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[0]
        print(f"note: npm could not install the page's scripts ({reason}); they will be loaded from CDNs")
        return None
    stamp.write_text(digest)
    return folder / "node_modules"


def copy_assets(packages: Path, target: Path) -> None:
    """Lay the scripts out as the page expects them: require.js, the widget manager with its fonts, MathJax."""
    npm = target / "npm"
    manager = npm / _MANAGER
    manager.mkdir(parents=True, exist_ok=True)
    shutil.copy(packages / "requirejs" / "require.js", npm / "require.js")
    shutil.copy(packages / _MANAGER / "embed-amd.js", manager)
    for font in sorted((packages / _MANAGER).glob("*.woff2")):
        shutil.copy(font, manager)
        shutil.copy(font, npm / "@jupyter-widgets")
    mathjax = packages / "mathjax" / "es5"
    (npm / "mathjax").mkdir(exist_ok=True)
    shutil.copy(mathjax / "tex-mml-chtml.js", npm / "mathjax")
    shutil.copytree(mathjax / "output" / "chtml", npm / "mathjax" / "output" / "chtml", dirs_exist_ok=True)


def stage(root: Path, replacements: Mapping[str, Path]) -> Path:
    """Copy ``book/`` to ``_build/src`` with just-executed chapters in place of the committed ones, and the
    status page.
    """
    target = root / "_build" / "src"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target, ignore=shutil.ignore_patterns("_build", ".ipynb_checkpoints"))
    (target / "chapters").mkdir(exist_ok=True)
    for name, path in replacements.items():
        shutil.copy(path, target / "chapters" / name)
    chapters = [target / "chapters" / source.name for source in sources(root)]
    missing = [path.stem for path in chapters if not path.exists()]
    if missing:
        raise BookError(f"never executed: {', '.join(missing)}; run `make book CHAPTER={missing[0]}`")
    for path in chapters:
        if errors(path):
            raise BookError(
                f"{path.name} holds a failed cell: {errors(path)[0]}; execute it again with `make book`"
            )
    (target / "status.md").write_text(status_page(chapters), encoding="utf-8")
    (target / "map.svg").write_text(house.svg(), encoding="utf-8")
    return target


def render(root: Path = ROOT, replacements: Mapping[str, Path] | None = None) -> Path:
    """Render the executed chapters; returns the page to open.

    Raises:
        BookError: a chapter is missing or holds an error, Sphinx warned, or an offline page asks another host
            for a file.
    """
    source = stage(root, replacements or {})
    packages = install_assets(root)
    if packages is not None:
        copy_assets(packages, source / "offline")
        config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
        config["sphinx"]["config"].update(_OFFLINE_SETTINGS)
        (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    output = root / "_build" / "jupyter-book"
    shutil.rmtree(output, ignore_errors=True)
    command = [
        str(Path(sys.executable).parent / "jupyter-book"),
        "build",
        str(source),
        "--path-output",
        str(output),
    ]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going", "-q"], cwd=root, capture_output=True, text=True
    )
    if done.returncode:
        raise BookError(f"jupyter-book failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    page = root / "_build" / "html"
    shutil.rmtree(page, ignore_errors=True)
    shutil.move(output / "_build" / "html", page)
    if packages is not None and (asked := external_files(page)):
        raise BookError(f"the page should be complete without a network but loads {', '.join(sorted(asked))}")
    return page / "index.html"


def external_files(page: Path) -> set[str]:
    """Addresses on other hosts from which the rendered pages load scripts, styles, fonts or pictures (links
    are no loads).
    """
    pattern = re.compile(
        r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']((?:https?:)?//[^\"']+)", re.I
    )
    return {
        html.unescape(address)
        for path in page.rglob("*.html")
        for tag in re.finditer(r"<(?:script|img|iframe|link)\b[^>]*>", path.read_text(encoding="utf-8"), re.I)
        if "canonical" not in tag[0]
        for address in pattern.findall(tag[0])
    }


def build(chapter: str, parameters: Mapping[str, Any], root: Path = ROOT) -> Path:
    """Execute the selected chapters and render the book; returns the page to open."""
    replacements: dict[str, Path] = {}
    for source in select(chapter, root):
        executed = execute(source, parameters, root)
        replacements[source.name] = executed
        if parameters["profile"] != "smoke":
            shutil.copy(executed, root / "book" / "chapters" / source.name)
    return render(root, replacements)


# ----------------------------------------------------------------------------------------------------------
# lock file


def lock(root: Path = ROOT) -> None:
    """Rewrite ``requirements.lock`` from the environment that runs this, keeping its heading."""
    path = root / "requirements.lock"
    heading = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude", "vtg-lib", "--exclude", "pip"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pins = [re.sub(r"\+\w+$", "", line) for line in frozen if "==" in line]
    torch = [line for line in pins if line.startswith("torch==")]
    others = sorted((line for line in pins if line not in torch), key=str.lower)
    path.write_text("\n".join([*heading, *torch, *others]) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vtg_lib.book.build", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "execute"):
        command = commands.add_parser(name)
        command.add_argument("--chapter", default="all")
        command.add_argument("--profile", default="quick")
        command.add_argument("--device", default="auto")
        command.add_argument("--seeds", default=None, help="comma-separated, such as 0,1,2")
        command.add_argument("--data-root", default=None)
        command.add_argument("--rerun", action="store_true")
    commands.add_parser("render")
    commands.add_parser("lock")
    options = parser.parse_args(arguments)
    try:
        if options.command == "lock":
            lock()
        elif options.command == "render":
            print(f"open {render()}")
        else:
            parameters = {"profile": options.profile, "device": options.device}
            if options.seeds:
                parameters["seeds"] = options.seeds
            if options.data_root:
                parameters["data_root"] = str(Path(options.data_root).resolve())
            if options.rerun:
                parameters["rerun"] = True
            if options.command == "execute":
                for source in select(options.chapter):
                    print(execute(source, parameters))
            else:
                print(f"open {build(options.chapter, parameters)}")
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
