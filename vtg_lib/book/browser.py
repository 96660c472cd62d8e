"""Looks at rendered pages as readers do, in a headless Chromium: `python -m vtg_lib.book.browser [FOLDER]`.

Every page is opened in light and in dark, 1200 and 480 pixels wide. Faults are: text whose contrast with
what is behind it is below 4.5 : 1 (3 : 1 where it is large), a page that scrolls sideways, script errors,
requests to other hosts, pictures without a text alternative, charts that are not drawn or tell nothing when
pointed at, and links into the book that lead nowhere.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtg_lib.files import PACKAGE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS, THEMES = (1200, 480), ("light", "dark")
SKIPPED = {"genindex.html", "search.html"}  # made by Sphinx; they hold no text of ours

_SCRIPT = Path(__file__).with_name("look.js")  # runs before anything else of the page


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with a page: where it was seen, of what kind, and up to five examples."""

    page: str
    seen: str
    kind: str
    count: int
    examples: tuple[str, ...]


def find_browser() -> str | None:
    """The browser in VTG_BROWSER, or the first that is installed."""
    named = os.environ.get("VTG_BROWSER")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


def look(page: Path, browser: str, *, width: int = 1200, theme: str = "light") -> dict[str, list[str]]:
    """What the script finds on a page, by kind of fault.

    Raises:
        RuntimeError: the browser did not come to an end of the page.
    """
    text = page.read_text(encoding="utf-8")
    copy = page.with_name(f"{page.stem}.look.html")
    script = f"<script>{_SCRIPT.read_text(encoding='utf-8').replace('THEME', theme)}</script>"
    copy.write_text(re.sub(r"(<head[^>]*>)", lambda m: m[1] + script, text, count=1), encoding="utf-8")
    options = [f"--window-size={width},1000", "--virtual-time-budget=8000", "--hide-scrollbars"]
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *options, "--dump-dom", copy.as_uri()]
    try:
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    finally:
        copy.unlink()
    found = re.search(r'<script type="application/json" id="vtg-look">(.*?)</script>', dom, re.S)
    if found is None:
        raise RuntimeError(f"{page.name}: the browser did not come to an end of the page")
    report: dict[str, list[str]] = json.loads(html.unescape(found[1]) if "&quot;" in found[1] else found[1])
    return report


def dead_files(page: Path) -> list[str]:
    """Links to files of the book that are not there, or to places that their pages do not have."""
    links = re.findall(r'<a [^>]*href="([^"]+)"', page.read_text(encoding="utf-8"))
    parts = [urllib.parse.urlsplit(html.unescape(link)) for link in links]
    places = {
        (urllib.parse.unquote(part.path), urllib.parse.unquote(part.fragment))
        for part in parts
        if part.path and not part.scheme and not part.netloc
    }
    dead = []
    for path, place in places:
        target = page.parent / path
        if not target.exists():
            dead.append(path)
        elif place and target.suffix == ".html" and f'id="{place}"' not in target.read_text(encoding="utf-8"):
            dead.append(f"{path}#{place}")
    return sorted(set(dead))


def faults(folder: Path, browser: str) -> Iterator[Fault]:
    """The faults of all pages below a folder."""
    for page in sorted(folder.rglob("*.html")):
        redirect = 'http-equiv="refresh"' in page.read_text(encoding="utf-8")[:200].lower()
        if page.name in SKIPPED or "_static" in page.parts or redirect:
            continue
        name = str(page.relative_to(folder))
        if dead := dead_files(page):
            yield Fault(page=name, seen="", kind="dead links", count=len(dead), examples=tuple(dead[:5]))
        for width in WIDTHS:
            for theme in THEMES:
                for kind, found in look(page, browser, width=width, theme=theme).items():
                    if found:
                        seen, some = f"{theme}, {width} px", tuple(dict.fromkeys(found))[:5]
                        yield Fault(page=name, seen=seen, kind=kind, count=len(found), examples=some)


def main(arguments: list[str]) -> int:
    """Print every fault; 1 if there is one, 0 if there is none or no browser."""
    folder = Path(arguments[0]) if arguments else PACKAGE.parent / "_build" / "html"
    browser = find_browser()
    if browser is None:
        print("no Chromium here: the pages were not looked at (VTG_BROWSER names one)")
        return 0
    number = 0
    for fault in faults(folder, browser):
        number += 1
        shown: Any = "; ".join(fault.examples)
        print(f"{fault.page} ({fault.seen}): {fault.count} {fault.kind}: {shown}")
    print(f"{number} faults")
    return int(number > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
