"""What the front pages say of the chapters, written from the papers' files and the run store:
`book/_toc.yml`, and on the first page and the README the table of chapters and what the claims came to. Of a
page only what stands between markers is written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import yaml

from vtg_lib.book import front
from vtg_lib.files import ROOT
from vtg_lib.papers import Paper, load_paper, paper_keys

# Pages beside the chapters, by the part of the contents that they stand in. `status` is made when rendering.
START, LIBRARY, ABOUT = (
    ("how_to_read", "your_data", "your_videos", "published_rows"),
    ("library", "architecture", "cluster"),
    ("references", "status"),
)
CHAPTERS = "<!-- chapters: written by `make contents` -->", "<!-- end of chapters -->"
CLAIMS = "<!-- claims: written by `make contents` -->", "<!-- end of claims -->"


def papers(drafts: Collection[str] = ()) -> list[Paper]:
    """The papers that have a chapter, in the order of the book; of drafts the named chapters."""
    every = map(load_paper, paper_keys())
    shown = [paper for paper in every if not paper.draft or paper.chapter in drafts]
    return sorted(shown, key=lambda paper: paper.chapter)


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same keys as a Markdown table."""
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def toc(drafts: Collection[str] = ()) -> str:
    """`_toc.yml` of Jupyter Book, with some drafts."""
    chapters = [f"chapters/{paper.chapter}" for paper in papers(drafts)]
    parts = {"Start": START, "Chapters": chapters, "Library": LIBRARY, "About": ABOUT}
    listed = [
        {"caption": caption, "chapters": [{"file": page} for page in pages]}
        for caption, pages in parts.items()
    ]
    heading = "# Written by `make contents` from the papers' files.\n"
    return heading + yaml.safe_dump({"format": "jb-book", "root": "intro", "parts": listed}, sort_keys=False)


def intro_table() -> str:
    """The chapters as the book's first page lists them."""
    return markdown(
        [
            {
                "chapter": f"[{paper.short}](chapters/{paper.chapter}.ipynb)",
                "paper": f"{paper.method}, {paper.venue}" if paper.method else "none",
                "question": paper.question,
            }
            for paper in papers()
        ]
    )


def readme_table() -> str:
    """The chapters as the README lists them."""
    return markdown(
        [
            {
                "chapter": f"[`{paper.chapter}`](notebooks/{paper.chapter}.ipynb)",
                "paper": f"{paper.title} ({paper.venue})",
            }
            for paper in papers()
        ]
    )


def between_markers(text: str, part: str, markers: tuple[str, str] = CHAPTERS) -> str:
    """`text` with `part` in place of what stood between the markers.

    Raises:
        ValueError: the markers are not there, each once and in order.
    """
    begin, end = markers
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.S)
    if (text.count(begin), text.count(end), len(pattern.findall(text))) != (1, 1, 1):
        raise ValueError(f"expected one part of the page between {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{part}\n{end}", text)


def first_page(claims: front.Claims, *, live: bool = False) -> str:
    """What the book's first page says of the claims."""
    coming = [paper.method for paper in map(load_paper, paper_keys()) if paper.draft and paper.method]
    return front.page(claims, coming, live=live)


def written(root: Path = ROOT) -> dict[Path, str]:
    """Each page that lists chapters or claims, and what it should hold."""
    intro, readme = root / "book" / "intro.md", root / "README.md"
    claims = front.judged(papers())
    told = {intro: first_page(claims), readme: front.markdown(claims)}
    lists = {intro: intro_table(), readme: readme_table()}
    return {root / "book" / "_toc.yml": toc()} | {
        page: between_markers(between_markers(page.read_text(encoding="utf-8"), rows), told[page], CLAIMS)
        for page, rows in lists.items()
    }


def write(root: Path = ROOT) -> None:
    """Write every list of chapters, what the claims came to, and their picture."""
    pictures = front.pictures(front.judged(papers()))
    for path, text in (written(root) | {root / name: drawn for name, drawn in pictures.items()}).items():
        path.write_text(text, encoding="utf-8")
