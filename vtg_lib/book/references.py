"""From a method's name to its paper: `book/references.bib`, whose field `names` is what tables call it.

Links go to the paper's own address and not to the page of references: an output of a notebook is read in
JupyterLab, too, where that page does not exist.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from vtg_lib.files import ROOT

BIBLIOGRAPHY = ROOT / "book" / "references.bib"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A work; its address is "" where none is established, `names` are what tables call the method."""

    key: str
    title: str
    year: str
    address: str
    names: tuple[str, ...]


@functools.cache
def references(path: Path = BIBLIOGRAPHY) -> tuple[Reference, ...]:
    """The works of the bibliography; none where there is no checkout."""
    if not path.exists():
        return ()
    from pybtex.database import parse_file

    found = []
    for key, entry in parse_file(str(path), bib_format="bibtex").entries.items():
        fields = entry.fields
        found.append(
            Reference(
                key=key,
                title=re.sub("[{}]", "", fields["title"]),
                year=fields.get("year", ""),
                address=_address(fields.get("eprint"), fields.get("doi"), fields.get("url")),
                names=tuple(name.strip() for name in fields.get("names", "").split(";") if name.strip()),
            )
        )
    return tuple(found)


def _address(arxiv: str | None, doi: str | None, url: str | None) -> str:
    if arxiv is not None:
        return f"https://arxiv.org/abs/{arxiv}"
    return f"https://doi.org/{doi}" if doi is not None else url or ""


def find(name: str) -> Reference | None:
    """The work of the method that tables call `name`."""
    return next((work for work in references() if name in work.names), None)


@functools.cache
def _pattern() -> re.Pattern[str]:
    """The name of any method, whole ("XML" is not in "XML+"), the longest that fits."""
    names = sorted((name for work in references() for name in work.names), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names)) or '(?!)'})(?![\w+-])")


def linked(text: str) -> Markup:
    """Escaped; the name of a method that has an address is a link to its paper."""

    def link(match: re.Match[str]) -> str:
        work = find(match[0])
        if work is None or not work.address:
            return match[0]
        title = escape(f"{work.title}, {work.year}" if work.year else work.title)
        return f'<a href="{escape(work.address)}" title="{title}">{match[0]}</a>'

    return Markup(_pattern().sub(link, str(escape(text))))
