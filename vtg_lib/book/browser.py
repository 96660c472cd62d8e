"""Looks at rendered pages as readers do, in a headless Chromium: `python -m vtg_lib.book.browser [FOLDER]`.

Every page is opened in light and in dark, 1200 and 480 pixels wide. Faults are: text whose contrast with what is behind
it is below 4.5 : 1 (3 : 1 where it is large), a page that scrolls sideways, script errors, requests to other hosts,
pictures without a text alternative, and links into the book that lead nowhere.
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

# Runs before anything else of the page: catches its errors, sets the theme, and leaves what it finds in the document.
_SCRIPT = """
<script>
(() => {
  const errors = [];
  addEventListener("error", e => errors.push(e.message || String(e.target && e.target.src)), true);
  addEventListener("unhandledrejection", e => errors.push(String(e.reason)));
  const theme = "THEME";
  try { localStorage.setItem("mode", theme); localStorage.setItem("theme", theme); } catch (e) {}
  const rgb = text => { const n = (text.match(/[\\d.]+/g) || []).map(Number); return n.length == 3 ? [...n, 1] : n; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = c => { const v = c.slice(0, 3).map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const behind = node => { const found = [];
    for (let e = node; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 0) found.push(c); if (c[3] == 1) break; }
    return found.reverse().reduce((below, c) => over(c, below), theme == "dark" ? [18, 18, 18, 1] : [255, 255, 255, 1]); };
  addEventListener("load", () => setTimeout(() => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.mode = theme;
    document.querySelectorAll("details").forEach(d => { d.open = true; });
    const faint = [], walker = document.createTreeWalker(document.querySelector("main") || document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
      const e = node.parentElement;
      if (!node.data.trim() || !e || e.closest("script, style, noscript, .MathJax, mjx-container, .headerlink, .sr-only, .visually-hidden")) continue;
      const style = getComputedStyle(e), box = e.getBoundingClientRect();
      if (style.visibility == "hidden" || style.display == "none" || +style.opacity == 0 || !box.width || !box.height) continue;
      const back = behind(e), front = over(rgb(style.color), back), [a, b] = [light(front), light(back)].sort((x, y) => y - x);
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
      if ((a + .05) / (b + .05) < (large ? 3 : 4.5)) faint.push(`${((a + .05) / (b + .05)).toFixed(1)}: ${node.data.trim().slice(0, 40)}`);
    }
    const wide = root.scrollWidth > innerWidth + 1 ? [`${root.scrollWidth} px`] : [];
    const outside = performance.getEntriesByType("resource").map(r => r.name).filter(n => /^https?:/.test(n));
    const unnamed = [...document.querySelectorAll("main img")].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 60));
    const dead = [...document.querySelectorAll('a[href^="#"]')].map(a => decodeURIComponent(a.getAttribute("href").slice(1)))
      .filter(id => id && !document.getElementById(id) && !document.getElementsByName(id).length);
    const out = document.createElement("script");
    out.type = "application/json"; out.id = "vtg-look";
    out.textContent = JSON.stringify({ "low contrast": faint, "scrolls sideways": wide, "script errors": errors,
      "outside requests": outside, "pictures without words": unnamed, "dead links": dead });
    document.body.append(out);
  }, 1500));
})();
</script>
"""


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
    copy.write_text(re.sub(r"(<head[^>]*>)", lambda m: m[1] + _SCRIPT.replace("THEME", theme), text, count=1))
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
    """Links to files of the book that are not there."""
    links = re.findall(r'<a [^>]*href="([^"]+)"', page.read_text(encoding="utf-8"))
    parts = [urllib.parse.urlsplit(html.unescape(link)) for link in links]
    paths = {urllib.parse.unquote(part.path) for part in parts if not part.scheme and not part.netloc}
    return sorted(path for path in paths if path and not (page.parent / path).exists())


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
