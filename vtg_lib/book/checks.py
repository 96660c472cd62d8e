"""Faults of rendered pages that a reader would see and Sphinx does not."""

from __future__ import annotations

import collections
import html
import re
from pathlib import Path


def external_files(page: Path) -> set[str]:
    """Addresses on other hosts from which the rendered pages load scripts, styles, fonts or pictures (links
    are no loads).
    """
    tags = re.compile(r"<(?:script|img|iframe|link)\b[^>]*>", re.I)
    address = re.compile(r"\b(?:src|href)=[\"']((?:https?:)?//[^\"']+)", re.I)
    return {
        html.unescape(found)
        for path in page.rglob("*.html")
        for tag in tags.findall(path.read_text(encoding="utf-8"))
        if "canonical" not in tag
        for found in address.findall(tag)
    }


def repeated_constants(page: str) -> list[str]:
    """Names that a page's inline scripts declare more than once at top level by `const`, `let` or `class`.

    They share one scope, so the second declaration is a syntax error that stops its whole script.
    """
    inline = re.compile(r"<script(?: type=[\"']?text/javascript[\"']?)?>(.*?)</script>", re.I | re.S)
    names: list[str] = []
    for script in inline.findall(page):
        bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|//[^\n]*|/\*.*?\*/", "", script, flags=re.S)
        while (outer := re.sub(r"\{[^{}]*\}", "", bare)) != bare:
            bare = outer
        names += re.findall(r"\b(?:const|let|class)\s+([\w$]+)", bare)
    return [name for name, count in collections.Counter(names).items() if count > 1]
