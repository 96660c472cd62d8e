"""The page's own scripts: pinned npm packages, laid out below ``_static`` so that a page needs no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from vtg_lib.files import ROOT

# Where the page's own scripts lie in their npm packages, and where the page looks for them (below _static).
_MANAGER = "@jupyter-widgets/html-manager/dist"
OFFLINE_SETTINGS: dict[str, Any] = {
    "html_static_path": ["static", "offline"],
    "nb_ipywidgets_js": dict.fromkeys(
        ("widgets-shim.js", "npm/require.js", f"npm/{_MANAGER}/embed-amd.js"), {}
    ),
    "mathjax_path": "npm/mathjax/tex-mml-chtml.js",
    "html_js_files": [["charts.js", {"defer": "defer"}]],
}


def install(root: Path = ROOT) -> Path | None:
    """Install the pinned npm packages under ``_build/npm``; None (with a printed note) where that cannot be
    done.
    """
    folder = root / "_build" / "npm"
    manifest = [root / "package.json", root / "package-lock.json"]
    stamp = folder / ".installed"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in manifest)).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return folder / "node_modules"
    # the environment's own npm comes first
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    npm = shutil.which("npm", path=path)
    if npm is None:
        print("note: no npm found; widgets and formulas of the rendered page will be loaded from CDNs")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for file in manifest:
        shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[0]
        print(f"note: npm could not install the page's scripts ({reason}); they will be loaded from CDNs")
        return None
    stamp.write_text(digest, encoding="utf-8")
    return folder / "node_modules"


def lay_out(packages: Path, target: Path) -> None:
    """Lay the scripts out as the page expects: require.js, widgets with their fonts, MathJax, charts."""
    npm = target / "npm"
    manager, mathjax = npm / _MANAGER, packages / "mathjax" / "es5"
    manager.mkdir(parents=True, exist_ok=True)
    shutil.copy(packages / "requirejs" / "require.js", npm / "require.js")
    shutil.copy(packages / _MANAGER / "embed-amd.js", manager)
    for font in sorted((packages / _MANAGER).glob("*.woff2")):
        shutil.copy(font, manager)
        shutil.copy(font, npm / "@jupyter-widgets")
    shutil.copytree(mathjax / "output" / "chtml", npm / "mathjax" / "output" / "chtml", dirs_exist_ok=True)
    shutil.copy(mathjax / "tex-mml-chtml.js", npm / "mathjax")
    join_charts(packages, npm)


def join_charts(packages: Path, target: Path) -> None:
    """Join what draws charts, out of sight of require.js, which some pages have: it would register there."""
    names = [f"{name}/build/{name}.min.js" for name in ("vega", "vega-lite", "vega-embed")]
    joined = "\n".join((packages / name).read_text(encoding="utf-8") for name in names)
    wrapped = f"(function (define, exports, module) {{\n{joined}\n}}).call(self);\n"
    (target / "vega.js").write_text(wrapped, encoding="utf-8")
